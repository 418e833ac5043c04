//! Decides who plays in the demo: five cities and a hub, and how each city is reached. Never starts anything.

use std::path::{Path, PathBuf};

/// A city of the demo, with its one system.
#[derive(Debug, PartialEq, Eq)]
pub struct City {
    pub code: &'static str,
    pub zh: &'static str,
    pub en: &'static str,
    pub system: &'static str,
    pub way: Way,
}

/// How others reach a city's gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Dialled,
    /// Nobody can dial it: it fetches at Liuzhou.
    Fetches,
    /// Nobody can dial it: it fetches at the hub, and what is for it goes there.
    ThroughHub,
}

pub const LIUZHOU: City = City { code: "450200", zh: "柳州", en: "Liuzhou", system: "window", way: Way::Dialled };
pub const FOSHAN: City = City { code: "440600", zh: "佛山", en: "Foshan", system: "approval", way: Way::Dialled };
pub const YINCHUAN: City =
    City { code: "640100", zh: "银川", en: "Yinchuan", system: "approval", way: Way::ThroughHub };
pub const ZHANJIANG: City =
    City { code: "440800", zh: "湛江", en: "Zhanjiang", system: "approval", way: Way::Fetches };
pub const XIAMEN: City = City { code: "350200", zh: "厦门", en: "Xiamen", system: "approval", way: Way::Dialled };

/// Liuzhou first, then those it works with.
pub static CITIES: [&City; 5] = [&LIUZHOU, &FOSHAN, &YINCHUAN, &ZHANJIANG, &XIAMEN];

/// The hub's name; as a member it is `hub/main`, its folder is `hub-main`.
pub const HUB: &str = "main";
pub const HUB_FOLDER: &str = "hub-main";

impl City {
    /// `450200/window`
    pub fn address(&self) -> String {
        format!("{}/{}", self.code, self.system)
    }

    /// What its system writes down, below the demo's folder.
    pub fn diary(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}-{}.jsonl", self.code, self.system))
    }
}
