//! Decides what `tongban verify` says of receipt files: each alone, and those of one message as a chain. Works offline, on
//! files alone, and believes no key but those of the trust file.

mod bench;
mod chain;
mod gather;
mod show;
mod trust;

use std::path::{Path, PathBuf};

use clap::Args;

#[cfg(test)]
pub use self::bench::Fault;
pub use self::bench::{Bench, Verdict};
#[cfg(test)]
pub use self::chain::sample;
pub use self::chain::{Chain, Link, state};
pub use self::show::{counts, show, tell_cosigned};
use super::{Answer, Exit, Failure, Out};

/// Receipts from which on a bar shows how far it is.
const BAR_FROM: usize = 1_000;

/// Verify receipt files offline
///
/// Beside each NAME.tlog-proof lies the leaf that it proves, NAME.leaf. Several receipts of one message must form a chain
/// without gaps.
#[derive(Args)]
pub struct Verify {
    /// Files NAME.tlog-proof, or folders that hold them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// The keys of the logs that you trust, and of the witnesses, one vkey a line
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// Not all receipts of each message are at hand: gaps in a chain are no fault
    #[arg(long)]
    partial: bool,
}

/// Verifies what the command line names.
pub fn run(args: &Verify, out: &Out) -> Answer {
    let trusted = trust::read(&args.trust)?;
    let (files, asked) = (gather::proofs(&args.paths)?, !trusted.witnesses.is_empty());
    let (verdicts, chains) = judge(trusted, &files, out)?;
    show(&verdicts, &chains, out)?;
    if asked {
        tell_cosigned(&verdicts, out);
    }
    Ok(answer(&verdicts, &chains, args.partial))
}

/// Verifies every receipt of a folder against a trust file's keys.
pub fn folder(dir: &Path, trust: &Path, out: &Out) -> Result<(Vec<Verdict>, Vec<Chain>), Failure> {
    judge(trust::read(trust)?, &gather::proofs(&[dir.to_owned()])?, out)
}

/// Done when every receipt holds and every chain is whole, else no.
pub fn answer(verdicts: &[Verdict], chains: &[Chain], partial: bool) -> Exit {
    let whole = |chain: &Chain| match chain.link {
        Link::Whole => true,
        Link::Gap(_) => partial,
        Link::Fork(_) => false,
    };
    if verdicts.iter().all(Verdict::holds) && chains.iter().all(whole) { Exit::Done } else { Exit::No }
}

fn judge(trusted: trust::Trusted, files: &[PathBuf], out: &Out) -> Result<(Vec<Verdict>, Vec<Chain>), Failure> {
    let bar = (files.len() > BAR_FROM).then(|| out.bar(files.len() as u64));
    let mut bench = Bench::new(trusted);
    let mut verdicts = Vec::with_capacity(files.len());
    for file in files {
        verdicts.push(bench.judge(file)?);
        bar.iter().for_each(|bar| bar.inc(1));
    }
    bar.iter().for_each(|bar| bar.finish_and_clear());
    let chains = chain::chains(verdicts.iter().filter_map(|verdict| verdict.found.as_ref().ok()));
    Ok((verdicts, chains))
}
