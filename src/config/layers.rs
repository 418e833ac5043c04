//! Decides which value of each setting holds: the main file's, that of a file in `conf.d` beside it, the environment's or the
//! command line's, the later before the earlier; and notes where it stands. Never reads what a value means.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, KEYS, Key, Kind, Need, SECTIONS};
use super::{ConfigError, Fault};
use crate::lang::Unfit;
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_FAULTS_MAX, CONFIG_FILES_MAX};
use crate::message::plain;

/// How the environment's settings begin: `TONGBAN_SECTION__NAME`.
const ENVIRONMENT: &str = "TONGBAN_";

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Default,
    File {
        path: Arc<Path>,
        line: usize,
        column: usize,
    },
    /// A variable of the environment.
    Environment(String),
    /// The command line: `--set section.name=value`.
    CommandLine(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line, column } => write!(f, "{}:{line}:{column}", plain(&path.to_string_lossy())),
            Origin::Environment(variable) => write!(f, "${}", plain(variable)),
            Origin::CommandLine(name) => write!(f, "--set {}", plain(name)),
        }
    }
}

/// A value, of its setting's kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
    Texts(Vec<(Origin, String)>),
}

/// As it would stand in a file.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "{}", toml::Value::from(text.as_str())),
            Value::Number(number) => write!(f, "{number}"),
            Value::Flag(flag) => write!(f, "{flag}"),
            Value::Texts(texts) => {
                write!(f, "{}", toml::Value::from(texts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>()))
            }
        }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub origin: Origin,
    pub value: Value,
}

/// The values of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub origin: Origin,
    pub values: BTreeMap<&'static str, Found>,
}

/// What holds of everything that was given.
#[derive(Debug, Default)]
pub struct Layers {
    /// The tables that stand once.
    pub once: BTreeMap<&'static str, Row>,
    /// The tables that stand as often as wanted, in the order of the files.
    pub rows: BTreeMap<&'static str, Vec<Row>>,
    pub faults: Vec<Fault>,
}

/// The texts of the main file and of those in `conf.d` beside it, in order.
///
/// # Errors
/// One of them cannot be read, or there are too many.
pub fn files(main: &Path) -> Result<Vec<(PathBuf, String)>, ConfigError> {
    let folder = main.parent().unwrap_or(Path::new(".")).join("conf.d");
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| ConfigError::Unreadable { path, source }
    };
    let mut more = match fs::read_dir(&folder) {
        Ok(entries) => {
            let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
            paths.map_err(at(&folder))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![],
        Err(error) => return Err(at(&folder)(error)),
    };
    more.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    more.sort();
    if more.len() > CONFIG_FILES_MAX {
        let (count, most) = (more.len(), CONFIG_FILES_MAX);
        let what =
            Unfit::new(format!("{count} files; there may be {most}"), format!("有 {count} 个文件，至多 {most} 个"));
        return Err(at(&folder)(std::io::Error::other(what)));
    }
    let paths = std::iter::once(main.to_owned()).chain(more);
    paths.map(|path| text(&path).map_err(at(&path)).map(|text| (path, text))).collect()
}

fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = fs::File::open(path)?.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > CONFIG_BYTES_MAX {
        let most = CONFIG_BYTES_MAX;
        let what = Unfit::new(format!("more than {most} bytes"), format!("超过 {most} 字节"));
        return Err(std::io::Error::other(what));
    }
    Ok(text)
}

impl Layers {
    /// Lays the values of a file over those that stand.
    pub fn file(&mut self, path: &Path, text: &str) {
        let places = Places::new(path, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors.into_iter().take(CONFIG_FAULTS_MAX) {
            let at = places.at(error.span().map_or(0, |span| span.start));
            self.fault(at, error.message(), "不是合法的 TOML");
        }
        for (name, value) in table.into_inner() {
            if self.tells_enough() {
                break;
            }
            self.section(&places, &name, value);
        }
    }

    /// Lays over them what of the environment is meant for the configuration.
    pub fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (variable, text) in variables {
            let Some((section, name)) = variable.strip_prefix(ENVIRONMENT).and_then(|rest| rest.split_once("__"))
            else {
                continue;
            };
            let (section, name) = (section.to_lowercase(), name.to_lowercase());
            self.single(Origin::Environment(variable), &section, &name, &text);
        }
    }

    /// Lays over them what the command line sets: `section.name=value`.
    pub fn command_line(&mut self, sets: &[String]) {
        for set in sets {
            let parts = set.split_once('=').and_then(|(name, text)| Some((name.trim().split_once('.')?, text)));
            let Some(((section, name), text)) = parts else {
                let en = "must be section.name=value, such as gateway.listen=0.0.0.0:7501";
                let zh = "应写作 section.name=value，例如 gateway.listen=0.0.0.0:7501";
                self.fault(Origin::CommandLine(set.clone()), en, zh);
                continue;
            };
            self.single(Origin::CommandLine(format!("{section}.{name}")), section, name, text);
        }
    }

    /// Notes what is missing; to be called after the last layer.
    pub fn complete(&mut self, main: &Path) {
        let top = Origin::File { path: main.into(), line: 1, column: 1 };
        for key in KEYS.iter().filter(|key| key.need == Need::Required) {
            let many = keys::section(key.section).is_some_and(|section| section.rows);
            let rows: Vec<&Row> = if many {
                self.rows.get(key.section).into_iter().flatten().collect()
            } else {
                self.once.get(key.section).into_iter().collect()
            };
            let lacking = rows.iter().filter(|row| !row.values.contains_key(key.name));
            let mut places: Vec<Origin> = lacking.map(|row| row.origin.clone()).collect();
            if !many && rows.is_empty() {
                places.push(top.clone());
            }
            for place in places {
                self.fault(place, format!("{key} is missing: {}", key.en), format!("缺少 {key}：{}", key.zh));
            }
        }
    }

    fn fault(&mut self, origin: Origin, en: impl Into<String>, zh: impl Into<String>) {
        self.faults.push(Fault { origin, en: en.into(), zh: zh.into() });
    }

    /// Whether whoever reads the faults has enough of them: each costs time, and a file that is no configuration has
    /// one for each of its bytes.
    fn tells_enough(&self) -> bool {
        self.faults.len() >= CONFIG_FAULTS_MAX
    }

    fn section(&mut self, places: &Places<'_>, name: &Spanned<std::borrow::Cow<'_, str>>, value: Spanned<DeValue<'_>>) {
        let origin = places.at(name.span().start);
        let Some(section) = keys::section(name.as_ref()) else {
            let known = SECTIONS.iter().map(|section| section.name);
            let (en, zh) = unknown("section", "节", name.as_ref(), known);
            return self.fault(origin, en, zh);
        };
        match (section.rows, value.into_inner()) {
            (false, DeValue::Table(table)) => {
                let values = self.values(places, section.name, table);
                let row = self.once.entry(section.name).or_insert(Row { origin, values: BTreeMap::new() });
                row.values.extend(values);
            }
            (true, DeValue::Array(rows)) if rows.iter().all(|row| row.as_ref().is_table()) => {
                for row in rows {
                    let origin = places.at(row.span().start);
                    let DeValue::Table(table) = row.into_inner() else { continue };
                    let values = self.values(places, section.name, table);
                    self.rows.entry(section.name).or_default().push(Row { origin, values });
                }
            }
            (rows, _) => {
                let form = if rows { format!("[[{}]]", section.name) } else { format!("[{}]", section.name) };
                self.fault(origin, format!("must stand as {form}"), format!("应写作 {form}"));
            }
        }
    }

    fn values(
        &mut self,
        places: &Places<'_>,
        section: &'static str,
        table: DeTable<'_>,
    ) -> BTreeMap<&'static str, Found> {
        let mut values = BTreeMap::new();
        for (name, value) in table {
            if self.tells_enough() {
                break;
            }
            let Some(key) = self.key(places.at(name.span().start), section, name.as_ref()) else { continue };
            let origin = places.at(value.span().start);
            let Some(value) = written(places, key.kind, value.into_inner()) else {
                let (en, zh) = key.kind.words();
                self.fault(origin, format!("{key} must be {en}"), format!("{key} 应为{zh}"));
                continue;
            };
            if self.holds_no_secret(&origin, key, &value) {
                values.insert(key.name, Found { origin, value });
            }
        }
        values
    }

    /// A value given as a text, outside of files.
    fn single(&mut self, origin: Origin, section: &str, name: &str, text: &str) {
        let Some(known) = keys::section(section) else {
            let (en, zh) = unknown("section", "节", section, SECTIONS.iter().map(|section| section.name));
            return self.fault(origin, en, zh);
        };
        if known.rows {
            let en = format!("[[{section}]] can stand in files alone: put it in a file in conf.d");
            return self.fault(origin, en, format!("[[{section}]] 只能写在文件中：请放入 conf.d 下的文件"));
        }
        let Some(key) = self.key(origin.clone(), known.name, name) else { return };
        let Some(value) = typed(&origin, key.kind, text) else {
            let (en, zh) = key.kind.words();
            return self.fault(origin, format!("{key} must be {en}"), format!("{key} 应为{zh}"));
        };
        if self.holds_no_secret(&origin, key, &value) {
            let row = Row { origin: origin.clone(), values: BTreeMap::new() };
            let row = self.once.entry(known.name).or_insert(row);
            row.values.insert(key.name, Found { origin, value });
        }
    }

    fn key(&mut self, origin: Origin, section: &str, name: &str) -> Option<&'static Key> {
        let found = keys::find(section, name);
        if found.is_none() {
            let known = KEYS.iter().filter(|key| key.section == section).map(|key| key.name);
            let (mut en, mut zh) = unknown("setting", "设置", name, known);
            if let Some(elsewhere) = KEYS.iter().find(|key| key.name == name) {
                en += &format!("; {name} stands in [{}]", elsewhere.section);
                zh += &format!("；{name} 属于 [{}]", elsewhere.section);
            }
            self.fault(origin, en, zh);
        }
        found
    }

    /// Secrets stand in files of their own, whose modes are looked after; a fault never repeats one.
    fn holds_no_secret(&mut self, origin: &Origin, key: &Key, value: &Value) -> bool {
        let secret = |text: &str| text.contains("-----BEGIN") || text.contains("PRIVATE+KEY") || text.contains('\n');
        let holds = match value {
            Value::Text(text) => secret(text),
            Value::Texts(texts) => texts.iter().any(|(_, text)| secret(text)),
            Value::Number(_) | Value::Flag(_) => false,
        };
        if holds {
            let en = format!("{key} must name a file, not hold what belongs in it");
            self.fault(origin.clone(), en, format!("{key} 应给出文件路径，不得写入文件内容"));
        }
        !holds
    }
}

/// Where things stand in a file's text.
struct Places<'a> {
    path: Arc<Path>,
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(path: &Path, text: &'a str) -> Places<'a> {
        let after = text.match_indices('\n').map(|(newline, _)| newline + 1);
        Places { path: path.into(), text, lines: std::iter::once(0).chain(after).collect() }
    }

    /// Line and column count from 1; the column in characters.
    fn at(&self, byte: usize) -> Origin {
        let byte = self.text.floor_char_boundary(byte);
        let line = self.lines.partition_point(|begins| *begins <= byte);
        let begins = line.checked_sub(1).and_then(|place| self.lines.get(place)).copied().unwrap_or_default();
        Origin::File { path: self.path.clone(), line, column: self.text[begins..byte].chars().count() + 1 }
    }
}

/// A value of a file, where it is of that kind.
fn written(places: &Places<'_>, kind: Kind, value: DeValue<'_>) -> Option<Value> {
    match (kind, value) {
        (Kind::Text | Kind::Path, DeValue::String(text)) => Some(Value::Text(text.into_owned())),
        (Kind::Seconds, DeValue::Integer(number)) => {
            let number = u64::from_str_radix(number.as_str(), number.radix()).ok()?;
            Some(Value::Number(number))
        }
        (Kind::Flag, DeValue::Boolean(flag)) => Some(Value::Flag(flag)),
        (Kind::Texts | Kind::Paths, DeValue::Array(items)) => {
            let items = items.into_iter().map(|item| {
                let origin = places.at(item.span().start);
                match item.into_inner() {
                    DeValue::String(text) => Some((origin, text.into_owned())),
                    _ => None,
                }
            });
            items.collect::<Option<_>>().map(Value::Texts)
        }
        _ => None,
    }
}

/// A value given as a text; a list is separated by commas.
fn typed(origin: &Origin, kind: Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::Text | Kind::Path => Some(Value::Text(text.to_owned())),
        Kind::Seconds => text.trim().parse().ok().map(Value::Number),
        Kind::Flag => text.trim().parse().ok().map(Value::Flag),
        Kind::Texts | Kind::Paths => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(Value::Texts(items.map(|item| (origin.clone(), item.to_owned())).collect()))
        }
    }
}

/// What to say of a name that is not known, with the nearest one that is.
fn unknown<'a>(en: &str, zh: &str, name: &str, known: impl Iterator<Item = &'a str>) -> (String, String) {
    let near = known.map(|other| (strsim::damerau_levenshtein(name, other), other)).min();
    // As far as a slip or two of the fingers.
    let near = near.filter(|(distance, other)| *distance <= 2.max(other.len() / 3));
    let (mut en, mut zh) = (format!("there is no {en} {name:?}"), format!("没有名为 {name:?} 的{zh}"));
    if let Some((_, other)) = near {
        en += &format!("; did you mean {other:?}?");
        zh += &format!("；是否应为 {other:?}？");
    }
    (en, zh)
}
