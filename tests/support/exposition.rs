//! Reads OpenMetrics text strictly: whatever a monitor could stumble over is a fault.

use std::collections::{BTreeMap, BTreeSet};

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A page of figures.
#[derive(Debug, Default)]
pub struct Page {
    /// Family by name, and its type.
    pub families: BTreeMap<String, String>,
    pub samples: Vec<Sample>,
}

impl Page {
    /// The figure with this name and exactly these labels.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels: BTreeMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.samples.iter().find(|sample| sample.name == name && sample.labels == labels).map(|sample| sample.value)
    }

    /// All figures of this name that have these labels, and perhaps others, added up.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            sample.name == name && labels.iter().all(|(k, v)| sample.labels.get(*k).is_some_and(|it| it == v))
        };
        self.samples.iter().filter(has).map(|sample| sample.value).sum()
    }

    /// The names of all figures.
    pub fn names(&self) -> BTreeSet<String> {
        self.samples.iter().map(|sample| sample.name.clone()).collect()
    }
}

/// Reads a page.
pub fn read(text: &str) -> Result<Page, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it does not end with EOF")?;
    let (mut page, mut family) = (Page::default(), String::new());
    let mut seen = BTreeSet::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let (word, rest) = rest.split_once(' ').ok_or(format!("{line:?}: half a comment"))?;
            let (name, told) = rest.split_once(' ').ok_or(format!("{line:?}: no name"))?;
            plain(name)?;
            match word {
                "HELP" if told.is_empty() => return Err(format!("{name}: no help")),
                "HELP" => name.clone_into(&mut family),
                "TYPE" if name == family => {
                    if page.families.insert(name.to_owned(), told.to_owned()).is_some() {
                        return Err(format!("{name} stands twice"));
                    }
                }
                _ => return Err(format!("{line:?}: out of order")),
            }
            continue;
        }
        let sample = sample(line)?;
        let kind = page.families.get(&family).ok_or(format!("{line:?}: of no family"))?;
        let fits = match (kind.as_str(), sample.name.strip_prefix(&family)) {
            ("counter", Some("_total")) => sample.value >= 0.0,
            ("gauge", Some("")) => true,
            ("histogram", Some("_bucket")) => sample.labels.contains_key("le"),
            ("histogram", Some("_sum" | "_count")) => !sample.labels.contains_key("le"),
            _ => false,
        };
        if !fits {
            return Err(format!("{line:?}: does not fit {family}, a {kind}"));
        }
        if !seen.insert((sample.name.clone(), sample.labels.clone())) {
            return Err(format!("{line:?} stands twice"));
        }
        page.samples.push(sample);
    }
    histograms(&page)?;
    Ok(page)
}

fn plain(name: &str) -> Result<(), String> {
    let good = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if good && name.starts_with(|c: char| c.is_ascii_lowercase()) { Ok(()) } else { Err(format!("{name:?}: no name")) }
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or(format!("{line:?}: no value"))?;
    let (name, rest) = line.split_at(end);
    plain(name)?;
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = value.strip_prefix(' ').ok_or(format!("{line:?}: no value"))?;
    let value = value.parse().map_err(|_| format!("{line:?}: {value:?} is no number"))?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        let (key, quoted) = rest.split_once("=\"").ok_or(format!("{rest:?}: no label"))?;
        plain(key)?;
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (place, c) in quoted.char_indices() {
            match (escaped, c) {
                (true, 'n') => value.push('\n'),
                (true, '"' | '\\') => value.push(c),
                (true, _) => return Err(format!("{rest:?}: an unknown escape")),
                (false, '"') => {
                    end = Some(place);
                    break;
                }
                (false, '\\') => {}
                (false, c) => value.push(c),
            }
            escaped = !escaped && c == '\\';
        }
        let end = end.ok_or(format!("{rest:?}: no end"))?;
        if labels.insert(key.to_owned(), value).is_some() {
            return Err(format!("{key} stands twice"));
        }
        rest = &quoted[end + 1..];
        match rest.as_bytes().first() {
            Some(b',') => rest = &rest[1..],
            Some(b'}') => return Ok((labels, &rest[1..])),
            _ => return Err(format!("{rest:?}: labels without an end")),
        }
    }
}

/// Buckets rise, and the last one is the count.
fn histograms(page: &Page) -> Result<(), String> {
    let mut last: BTreeMap<(String, BTreeMap<String, String>), (f64, f64)> = BTreeMap::new();
    for bucket in page.samples.iter().filter(|sample| sample.labels.contains_key("le")) {
        let mut labels = bucket.labels.clone();
        let le = labels.remove("le").unwrap_or_default().replace("+Inf", "inf");
        let le: f64 = le.parse().map_err(|_| format!("{}: {le:?} is no bound", bucket.name))?;
        let family = bucket.name.trim_end_matches("_bucket").to_owned();
        let before = last.insert((family.clone(), labels), (le, bucket.value));
        if before.is_some_and(|(bound, count)| le <= bound || bucket.value < count) {
            return Err(format!("{family}: buckets do not rise"));
        }
    }
    for ((family, labels), (bound, count)) in last {
        let labels: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        if bound != f64::INFINITY || page.get(&format!("{family}_count"), &labels) != Some(count) {
            return Err(format!("{family}: the last bucket is not the count"));
        }
    }
    Ok(())
}
