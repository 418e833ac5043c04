//! Decides what is told of the program itself: how large it is, of how many packages, and how long it takes to build from nothing.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::Place;
use crate::curve::Curve;

pub fn measure(place: &Place) -> Result<Curve> {
    let mut curve = Curve::new("build", "What the program is made of", "", &[]);
    let bytes = std::fs::metadata(&place.program.0).context("no program")?.len();
    curve.fact("program", bytes as f64 / f64::from(1 << 20), "MiB");
    let lock = std::fs::read_to_string("Cargo.lock").context("not at the project's root")?;
    curve.fact("packages in the lockfile", lock.matches("\n[[package]]\n").count() as f64, "");
    let begun = Instant::now();
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--quiet", "--target-dir"]).arg(place.folder.join("target"));
    ensure!(cargo.status()?.success(), "it does not build");
    curve.fact("building it from nothing, sources at hand", begun.elapsed().as_secs_f64(), "s");
    Ok(curve)
}
