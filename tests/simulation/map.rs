//! Decides where a world takes place: which members there are, how they reach each other, and where their stores lie.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tongban::party::{Alliance, Member, Name, Party, Role};
use tongban::receipt::{Checker, LogKey};
use tongban::routing::{Index, OwnSystem, Tables, Way, Ways};
use tongban::store::{self, Synchronous};
use tongban::tlog::note::SigningKey;

use crate::dice::Dice;
use crate::world::{Gateway, Place};

const CITIES: [&str; 4] = ["330100", "310100", "450200", "640100"];
pub const SYSTEM: &str = "window";

pub struct Map {
    pub folder: PathBuf,
    pub members: Vec<Member>,
    /// A city that cannot be dialled: it fetches.
    pub pulls: Option<Place>,
    /// Cities reach each other through the hub alone.
    pub hub_alone: bool,
    /// Whether a city's own system wants the receipts of its messages.
    pub receipts_wanted: bool,
}

impl Map {
    pub fn draw(dice: &mut Dice, folder: PathBuf) -> Map {
        let cities = 2 + dice.index(3);
        let hub = dice.happens(500);
        let mut members: Vec<Member> = CITIES[..cities].iter().map(|city| city.parse().unwrap()).collect();
        if hub {
            members.push("hub/south".parse().unwrap());
        }
        let pulls = dice.happens(350).then(|| dice.index(cities));
        let (hub_alone, receipts_wanted) = (hub && dice.happens(300), dice.happens(500));
        Map { folder, members, pulls, hub_alone, receipts_wanted }
    }

    pub fn cities(&self) -> usize {
        self.members.iter().filter(|member| matches!(member, Member::City(_))).count()
    }

    pub fn is_hub(&self, place: Place) -> bool {
        place >= self.cities()
    }

    pub fn place(&self, member: &Member) -> Place {
        self.members.iter().position(|other| other == member).expect("a member of this world")
    }

    pub fn key(&self, place: Place) -> SigningKey {
        let name = format!("{}.alliance.example/log/a/1", self.members[place].to_string().replace('/', "-"));
        SigningKey::from_seed(&name, &[place as u8 + 1; 32]).unwrap()
    }

    pub fn checker(&self) -> Checker {
        let log =
            |place: Place| LogKey { member: self.members[place].clone(), key: self.key(place).verifying_key().clone() };
        Checker::new((0..self.members.len()).map(log).collect())
    }

    /// Whether `from` dials `to`; otherwise `to` fetches from it.
    pub fn dials(&self, to: Place) -> bool {
        self.pulls != Some(to)
    }

    pub fn party(&self, place: Place, role: Role) -> Party {
        let alliance: Alliance = "alliance.example".parse().unwrap();
        Party { alliance, member: self.members[place].clone(), role }
    }

    fn index(&self, own: Place, open: bool) -> Arc<Index> {
        let hubs: Vec<Name> = self
            .members
            .iter()
            .filter_map(|member| match member {
                Member::Hub(name) if !self.is_hub(own) => Some(name.clone()),
                _ => None,
            })
            .collect();
        let way = |to: Place| {
            let direct = !self.hub_alone || self.is_hub(own) || self.is_hub(to);
            let (dialable, pulls) = (direct && self.dials(to), direct && !self.dials(to));
            let hubs = if self.is_hub(to) { vec![] } else { hubs.clone() };
            (self.members[to].clone(), if open { Way { dialable, pulls, hubs } } else { Way::default() })
        };
        let others = (0..self.members.len()).filter(|to| *to != own);
        let window = OwnSystem { name: SYSTEM.parse().unwrap(), items: vec!["*".parse().unwrap()] };
        let tables = Tables {
            own: self.members[own].clone(),
            systems: if self.is_hub(own) { vec![] } else { vec![window] },
            ways: Ways::from_members(others.map(way)),
            allow: vec![],
            version: 0,
            tables: vec![],
        };
        Arc::new(Index::compile(&tables).unwrap())
    }
}

/// A member's gateway before its first start, over an empty store.
pub fn gateway(map: &Map, place: Place) -> Gateway {
    let folder = map.folder.join(place.to_string());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("store.db"), empty_store()).unwrap();
    Gateway {
        member: map.members[place].clone(),
        folder,
        index: map.index(place, true),
        closed: map.index(place, false),
        ways_closed: false,
        clock_off_ms: 0,
        life: 0,
        process: None,
    }
}

/// Where worlds have their stores: memory, where there is a folder of it.
pub fn ground() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    base.join(format!("tongban-simulation-{}", std::process::id()))
}

/// An empty store with the schema in it, made once: migrating anew for each gateway would take longer than a world.
fn empty_store() -> &'static [u8] {
    static EMPTY: OnceLock<Vec<u8>> = OnceLock::new();
    EMPTY.get_or_init(|| {
        let folder = ground().join("empty");
        drop(store::open(&folder, Synchronous::Full).unwrap());
        let empty = std::fs::read(folder.join("store.db")).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        empty
    })
}
