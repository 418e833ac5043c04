//! Decides whether routing keeps its published rules, each by an example.

use std::sync::Arc;

use tongban::limits::ROWS_MAX;
use tongban::message::{Address, Mode};
use tongban::party::{Division, Member};
use tongban::reason::Reason;
use tongban::routing::*;
use tongban::time::Time;

/// 2026-06-15 in China.
const NOW: Time = Time::from_ms(1_781_452_800_000 + 3_600_000);

fn city(code: &str) -> Member {
    Member::City(code.parse().unwrap())
}

fn tables(own: &str, texts: &[&str]) -> Tables {
    let system = |name: &str, items: &[&str]| OwnSystem {
        name: name.parse().unwrap(),
        items: items.iter().map(|item| item.parse().unwrap()).collect(),
    };
    let hubs = vec!["main".parse().unwrap(), "north".parse().unwrap()];
    Tables {
        own: own.parse().unwrap(),
        systems: vec![system("general", &["*"]), system("social", &["1144*"]), system("permit", &["1144-7"])],
        ways: Ways::from_members([
            (city("450200"), Way { dialable: true, pulls: false, hubs: hubs.clone() }),
            (city("450300"), Way { dialable: false, pulls: true, hubs }),
        ]),
        allow: vec![],
        version: 7,
        tables: texts.iter().map(|text| Arc::new(Table::from_toml(text).unwrap())).collect(),
    }
}

fn index(texts: &[&str]) -> Index {
    Index::compile(&tables("440600", texts)).unwrap()
}

#[derive(Clone, Copy, Default)]
struct Asked<'a> {
    to: Option<(&'a str, Option<&'a str>)>,
    jurisdiction: Option<&'a str>,
    item: &'a str,
    step: Option<&'a str>,
    mode: Option<Mode>,
    via: Option<&'a str>,
}

fn ask(index: &Index, asked: Asked<'_>) -> Result<Resolved, Refusal> {
    let to = asked.to.map(|(city, system)| Address {
        city: city.parse().unwrap(),
        system: system.map(|system| system.parse().unwrap()),
    });
    let jurisdiction: Option<Division> = asked.jurisdiction.map(|division| division.parse().unwrap());
    let step = asked.step.map(|step| step.parse().unwrap());
    let via: Option<Member> = asked.via.map(|via| via.parse().unwrap());
    index.resolve(&Query {
        to: to.as_ref(),
        jurisdiction: jurisdiction.as_ref(),
        item: &asked.item.parse().unwrap(),
        step: step.as_ref(),
        mode: asked.mode,
        now: NOW,
        entered: via.as_ref().map_or(Entered::Here, |via| Entered::Relayed { via }),
    })
}

fn lanes(decided: &Result<Resolved, Refusal>) -> String {
    match decided {
        Ok(resolved) => resolved.lanes.iter().map(Destination::to_string).collect::<Vec<_>>().join(" "),
        Err(refusal) => refusal.reason.code().to_owned(),
    }
}

const PARTNER: &str = r#"
owner = "450200"
[[route]]
division = "450205"
item = "1144*"
via = ["hub/main"]
[[route]]
division = "450200"
item = "1144-7"
via = ["direct"]
[[route]]
division = "450200"
item = "1144*"
step = "apply"
via = ["hub/north"]
[[route]]
division = "450200"
item = "1144*"
mode = "proxy"
via = ["pull", "hub/main"]
[[route]]
division = "450200"
item = "1144*"
via = ["direct", "hub/main"]
[[route]]
division = "450200"
item = "2250"
valid_until = 2026-06-14
via = ["direct"]
[[route]]
division = "450200"
item = "2250"
valid_from = 2026-06-15
valid_until = 2026-06-15
refuse = "CLOSED_TODAY"
[[route]]
division = "450200"
item = "3"
via = ["pull"]
"#;

#[test]
fn the_most_precise_row_is_taken() {
    let index = index(&[PARTNER]);
    let at = |jurisdiction, item, step, mode| {
        let asked = Asked { to: Some(("450200", None)), jurisdiction, item, step, mode, via: None };
        let decided = ask(&index, asked);
        let row = match &decided {
            Ok(resolved) => resolved.row.to_string(),
            Err(refusal) => refusal.row.as_ref().map_or(String::new(), RowRef::to_string),
        };
        (row, lanes(&decided))
    };
    let is = |row: &str, lanes: &str| (row.to_owned(), lanes.to_owned());
    assert_eq!(at(Some("450205"), "1144-7", None, None), is("row 1 of 450200", "hub/main"), "division before item");
    assert_eq!(at(Some("450205003"), "1144-8", Some("apply"), None).0, "row 1 of 450200", "division before step");
    assert_eq!(at(None, "1144-7", Some("apply"), None), is("row 2 of 450200", "450200"), "exact before prefix");
    assert_eq!(at(None, "1144-8", Some("apply"), Some(Mode::Proxy)).0, "row 3 of 450200", "step before mode");
    assert_eq!(at(None, "1144-8", Some("accept"), Some(Mode::Proxy)), is("row 4 of 450200", "hub/main"));
    assert_eq!(at(None, "1144-8", None, Some(Mode::Joint)), is("row 5 of 450200", "450200 hub/main"));
    assert_eq!(at(Some("110101"), "1144-8", None, None).0, "row 5 of 450200", "a jurisdiction elsewhere is no bar");
    assert_eq!(at(None, "2250", None, None), is("row 7 of 450200", "ROUTE_REFUSED"), "its one day in China");
    assert_eq!(at(None, "3", None, None), is("row 8 of 450200", "NO_ROUTE"), "the record names endpoints");
    assert_eq!(at(None, "4", None, None), is("", "NO_MATCHING_ITEM"), "a table takes what its rows say");
}

#[test]
fn the_most_precise_pattern_of_the_configuration_takes_an_item() {
    for (item, system) in [("1144-7", "permit"), ("1144-8", "social"), ("2250", "general")] {
        let asked = Asked { to: Some(("440600", None)), item, via: Some("450200"), ..Asked::default() };
        let resolved = ask(&index(&[]), asked).unwrap();
        assert_eq!(resolved.lanes[..], [Destination::System(system.parse().unwrap())], "{item}");
        assert_eq!(resolved.recipient.to_string(), format!("440600/{system}"));
        assert_eq!((resolved.row, resolved.version), (RowRef::Configured(system.parse().unwrap()), 7));
    }
}

#[test]
fn an_explanation_tells_each_step_on_the_way() {
    let (to, item) = (Address { city: "450200".parse().unwrap(), system: None }, "2250".parse().unwrap());
    let query = Query {
        to: Some(&to),
        jurisdiction: None,
        item: &item,
        step: None,
        mode: None,
        now: Time::from_ms(NOW.ms() + 86_400_000),
        entered: Entered::Here,
    };
    let (notes, decided) = index(&[PARTNER]).explain(&query);
    let notes: Vec<String> = notes.iter().map(Note::to_string).collect();
    assert_eq!(
        notes,
        [
            "rows must hold on 2026-06-16 (UTC+8)",
            "addressed to 450200",
            "rows under division 4502",
            "row 7 of 450200 has ended",
            "refused: NO_MATCHING_ITEM",
        ]
    );
    assert_eq!(decided.unwrap_err().reason, Reason::NoMatchingItem);
}

#[test]
fn the_order_of_the_systems_says_nothing() {
    let mut tables = tables("440600", &[]);
    tables.systems.reverse();
    let index = Index::compile(&tables).unwrap();
    for (item, system) in [("1144-7", "permit"), ("1144-8", "social"), ("2250", "general")] {
        let asked = Asked { to: Some(("440600", None)), item, ..Asked::default() };
        assert_eq!(ask(&index, asked).unwrap().recipient.to_string(), format!("440600/{system}"));
    }
}

#[test]
fn a_system_that_is_named_takes_what_a_row_gives_to_another() {
    let own = "owner = \"440600\"\n[[route]]\ndivision = \"440600\"\nitem = \"1\"\nsystem = \"permit\"\n";
    let index = index(&[own]);
    let named = ask(&index, Asked { to: Some(("440600", Some("general"))), item: "1", ..Asked::default() }).unwrap();
    assert_eq!(
        (named.recipient.to_string(), named.row.to_string()),
        ("440600/general".to_owned(), "system general as named by the sender".to_owned(),)
    );
    let open = ask(&index, Asked { to: Some(("440600", None)), item: "1", ..Asked::default() }).unwrap();
    assert_eq!(open.recipient.to_string(), "440600/permit");
}

/// Its first row has ended, its second has no open way, its third refuses; the others show the way.
const WAYS: &str = r#"
owner = "450200"
[[route]]
division = "450200"
item = "1"
valid_until = 2026-06-14
via = ["hub/main"]
[[route]]
division = "450200"
item = "2"
via = ["pull"]
[[route]]
division = "450200"
item = "3"
refuse = "GONE"
[[route]]
division = "450200"
item = "4"
valid_from = 2026-06-15
valid_until = 2026-06-15
via = ["hub/north"]
[[route]]
division = "450200"
item = "0"
via = ["direct"]
"#;

#[test]
fn a_test_message_takes_the_first_way_of_its_partners_table_that_is_open_today() {
    let guilin = "owner = \"450300\"\n[[route]]\ndivision = \"450300\"\nitem = \"7\"\nvia = [\"pull\"]\n";
    let test = |index: &Index, to| {
        lanes(&ask(index, Asked { to: Some((to, None)), item: "tongban.test", ..Asked::default() }))
    };
    let both = index(&[guilin, WAYS]);
    assert_eq!((test(&both, "450200").as_str(), test(&both, "450300").as_str()), ("hub/north", "450300"));
    let only = WAYS.replace("2026-06-15\nvalid_until = 2026-06-15", "2026-06-16");
    assert_eq!(test(&index(&[&only]), "450200"), "450200", "the row before begins tomorrow");
}

#[test]
fn a_row_that_names_the_step_is_not_for_a_message_that_names_none() {
    let row =
        |rest: &str, hub: &str| format!("[[route]]\ndivision = \"450200\"\nitem = \"1\"\n{rest}via = [\"{hub}\"]\n");
    let rows = [row("", "direct"), row("step = \"apply\"\n", "hub/main"), row("mode = \"proxy\"\n", "hub/north")];
    let index = index(&[&format!("owner = \"450200\"\n{}", rows.concat())]);
    let asked = Asked { to: Some(("450200", None)), item: "1", ..Asked::default() };
    assert_eq!(lanes(&ask(&index, Asked { mode: Some(Mode::Proxy), ..asked })), "hub/north");
    assert_eq!(lanes(&ask(&index, Asked { step: Some("apply"), mode: Some(Mode::Proxy), ..asked })), "hub/main");
    assert_eq!(lanes(&ask(&index, Asked { step: Some("other"), ..asked })), "450200");
}

#[test]
fn each_of_many_divisions_items_and_steps_is_found_by_its_own_name() {
    const MANY: usize = 30_000;
    let rows = |of: &dyn Fn(usize) -> String| {
        let rows: String = (0..MANY).map(|n| format!("[[route]]\n{}via = [\"direct\"]\n", of(n))).collect();
        index(&[&format!("owner = \"450200\"\n{rows}")])
    };
    let told = |index: &Index, asked: Asked<'_>| ask(index, asked).map(|resolved| resolved.row.to_string()).ok();
    let row = |n: usize| Some(format!("row {} of 450200", n + 1));
    let asked = Asked { to: Some(("450200", None)), item: "1", ..Asked::default() };
    let item = |n: usize| format!("IT-{n}-{}", n * n % 7);
    let index = rows(&|n| format!("division = \"450200\"\nitem = \"{}\"\n", item(n)));
    assert!((0..MANY).all(|n| told(&index, Asked { item: &item(n), ..asked }) == row(n)), "items");
    assert!(
        (0..MANY).all(|n| told(&index, Asked { item: &format!("{}x", item(n)), ..asked }).is_none()),
        "unknown items"
    );
    let village = |n: usize| format!("4502{:08}", n + 100_001);
    let index = rows(&|n| format!("division = \"{}\"\nitem = \"1\"\n", village(n)));
    assert!((0..MANY).all(|n| told(&index, Asked { jurisdiction: Some(&village(n)), ..asked }) == row(n)), "divisions");
    let step = |n: usize| format!("s{n}");
    let index = rows(&|n| format!("division = \"450200\"\nitem = \"1\"\nstep = \"{}\"\n", step(n)));
    assert!((0..MANY).all(|n| told(&index, Asked { step: Some(&step(n)), ..asked }) == row(n)), "steps");
}

#[test]
fn each_way_to_nowhere_has_its_own_reason() {
    let index = index(&[PARTNER]);
    let reason = |to, jurisdiction, via| {
        ask(&index, Asked { to, jurisdiction, item: "4", via, ..Asked::default() }).unwrap_err().reason
    };
    assert_eq!(reason(None, None, None), Reason::NoMatchingItem, "open, and no jurisdiction");
    assert_eq!(reason(None, Some("450200"), None), Reason::NoMatchingItem, "no row takes it");
    assert_eq!(reason(None, Some("110101"), None), Reason::NoMatchingItem, "nobody claims it");
    assert_eq!(reason(Some(("440600", Some("nobody"))), None, None), Reason::NoSuchSystem);
    assert_eq!(reason(Some(("350200", None)), None, None), Reason::NoRoute, "not in the directory");
    assert_eq!(
        reason(Some(("450300", None)), None, Some("450200")),
        Reason::NoRoute,
        "a gateway that is no hub relays nothing"
    );
    let open = Asked { jurisdiction: Some("450200"), item: "1144-7", via: Some("450300"), ..Asked::default() };
    assert_eq!(ask(&index, open).unwrap_err().reason, Reason::NoRoute, "nor what was left open");
}

#[test]
fn a_partner_without_a_table_is_reached_by_its_record() {
    let index = index(&[PARTNER]);
    let resolved = ask(&index, Asked { to: Some(("450300", Some("window"))), item: "4", ..Asked::default() }).unwrap();
    assert_eq!(resolved.row.to_string(), "record of 450300");
    assert_eq!(resolved.recipient.to_string(), "450300/window");
    assert_eq!(lanes(&Ok(resolved)), "450300 hub/main hub/north");
}

#[test]
fn what_is_open_goes_to_whoever_claims_its_jurisdiction() {
    let own = "owner = \"440600\"\n[[route]]\ndivision = \"440605\"\nitem = \"*\"\nsystem = \"permit\"\n\
               [[route]]\ndivision = \"440600\"\nitem = \"9\"\nrefuse = \"GONE\"\n";
    let index = index(&[PARTNER, own]);
    let open = |jurisdiction, item, via| {
        let decided = ask(&index, Asked { jurisdiction: Some(jurisdiction), item, via, ..Asked::default() });
        decided.map(|resolved| resolved.recipient.to_string()).map_err(|refusal| refusal.reason)
    };
    assert_eq!(open("450205", "1144", None).as_deref(), Ok("450200"));
    assert_eq!(open("440605001", "1144-7", None).as_deref(), Ok("440600/permit"), "its own row");
    assert_eq!(open("440605001", "1144-7", Some("450200")).as_deref(), Ok("440600/permit"), "and for a partner");
    assert_eq!(open("440604", "1144-8", None).as_deref(), Ok("440600/social"), "the configuration below all rows");
    assert_eq!(open("440604", "9", None), Err(Reason::RouteRefused));
    let named = Asked { to: Some(("440600", Some("general"))), item: "9", ..Asked::default() };
    let refused = ask(&index, named).unwrap_err();
    assert_eq!(refused.token.unwrap().as_str(), "GONE", "a refusal holds for a system that is named");
}

#[test]
fn a_hub_carries_by_the_records_and_chooses_no_city() {
    let index = Index::compile(&tables("hub/main", &[])).unwrap();
    let carried = |to, jurisdiction, via| {
        lanes(&ask(&index, Asked { to, jurisdiction, item: "1144-7", via, ..Asked::default() }))
    };
    assert_eq!(carried(Some(("450200", None)), None, Some("440600")), "450200 hub/main hub/north");
    assert_eq!(carried(Some(("450200", None)), None, Some("hub/north")), "450200 hub/main", "never back");
    assert_eq!(carried(Some(("450200", None)), None, Some("450200")), "hub/main hub/north");
    assert_eq!(carried(Some(("350200", None)), None, Some("450200")), "NO_ROUTE");
    assert_eq!(carried(None, Some("450200"), Some("440600")), "NO_MATCHING_ITEM");
    assert_eq!(carried(Some(("450200", None)), None, None), "NO_ROUTE", "it has nothing of its own to send");
}

#[test]
fn what_may_not_be_published_is_named_row_by_row() {
    let row = |owner: &str, rest: &str| format!("owner = \"{owner}\"\n[[route]]\nitem = \"*\"\n{rest}\n");
    let objections = |texts: &[&str], allow: &[&str]| {
        let allow = allow.iter().map(|division| division.parse().unwrap()).collect();
        let compiled = Index::compile(&Tables { allow, ..tables("440600", texts) });
        compiled.map_or_else(|all| all.iter().map(Objection::to_string).collect::<Vec<_>>(), |_| vec![])
    };
    let liuzhou = row("450200", "division = \"450000\"\nvia = [\"direct\"]");
    let guilin = row("450300", "division = \"45\"\nvia = [\"pull\"]");
    assert_eq!(objections(&[&liuzhou], &[]), ["row 1 of 450200 claims 45, which does not lie under its owner's code"]);
    assert_eq!(objections(&[&liuzhou], &["45"]), [""; 0]);
    assert_eq!(objections(&[&liuzhou, &guilin], &["45"]), ["row 1 of 450200 and row 1 of 450300 both claim 45 *"]);
    let twice = format!("{liuzhou}{}", liuzhou.split_once('\n').unwrap().1);
    assert_eq!(objections(&[&twice], &["*"]), ["row 1 of 450200 and row 2 of 450200 both claim 45 *"]);
    let dated = twice.replacen("via", "valid_until = 2026-01-01\nvia", 1);
    assert_eq!(objections(&[&dated], &["*"]).len(), 1, "the second holds from ever");
    let then = dated.replace("450000\"\nvia", "450000\"\nvalid_from = 2026-01-02\nvia");
    assert_eq!(objections(&[&then], &["*"]), [""; 0], "one after the other is no clash");
    let system = row("450200", "division = \"4502\"\nsystem = \"general\"");
    assert_eq!(objections(&[&system], &[]), ["row 1 of 450200 names a system; only the own city's table may"]);
    let unknown = row("440600", "division = \"4406\"\nsystem = \"nobody\"");
    assert_eq!(objections(&[&unknown], &[]), ["row 1 of 440600 names the system nobody, which is not configured"]);
    let away = row("440600", "division = \"4406\"\nvia = [\"direct\"]");
    assert_eq!(objections(&[&away], &[]), ["row 1 of 440600 names ways; the own city's table names systems"]);
    assert_eq!(
        objections(&[&row("450200", ""), &liuzhou].map(|_| "owner = \"450200\""), &[]),
        ["450200 has two tables"]
    );
}

#[test]
fn other_tables_stand_on_the_same_ground_under_their_own_version() {
    let before = index(&[PARTNER]);
    assert_eq!((before.version(), before.rows()), (7, 8));
    let own = "owner = \"440600\"\n[[route]]\ndivision = \"440605\"\nitem = \"3\"\nsystem = \"permit\"\n";
    let after = before.with(9, vec![Arc::new(Table::from_toml(own).unwrap())]).unwrap();
    assert_eq!((after.version(), after.rows()), (9, 1));
    let permit = Asked { jurisdiction: Some("440605"), item: "3", ..Asked::default() };
    assert_eq!(ask(&after, permit).unwrap().recipient.to_string(), "440600/permit", "the systems are still known");
    let partner = Asked { to: Some(("450200", None)), item: "1144-8", ..Asked::default() };
    assert_eq!(lanes(&ask(&before, partner)), "450200 hub/main");
    assert_eq!(lanes(&ask(&after, partner)), "450200 hub/main hub/north", "and its table is gone: the record says how");
}

#[test]
fn of_many_faults_and_objections_a_hundred_are_told() {
    let rows = |row: &str| format!("owner = \"450200\"\n{}", format!("[[route]]\n{row}\n").repeat(150));
    let faulty = rows("division = \"450200\"\nitem = \"*\"\nstep = 1\nvia = [\"direct\"]");
    let faults = Table::from_toml(&faulty).unwrap_err();
    assert_eq!((faults.len(), faults[0].to_string().as_str()), (100, "5:8: step: must be a text in quotes"));
    let objections = |row: &str| {
        let table = Arc::new(Table::from_toml(&rows(row)).unwrap());
        Index::compile(&Tables { tables: vec![table], ..tables("440600", &[]) }).unwrap_err().len()
    };
    assert_eq!(objections("division = \"460000\"\nitem = \"*\"\nvia = [\"direct\"]"), 100, "beyond the owner's code");
    assert_eq!(objections("division = \"450200\"\nitem = \"*\"\nvia = [\"direct\"]"), 100, "clashes");
}

#[test]
fn of_rows_that_hold_at_once_each_is_named_with_the_one_that_holds_longest() {
    let row = |from: u8, until: u8| {
        let days = format!("valid_from = 2026-03-{from:02}\nvalid_until = 2026-03-{until:02}");
        format!("[[route]]\ndivision = \"450200\"\nitem = \"1\"\n{days}\nvia = [\"direct\"]\n")
    };
    let clashes = |rows: &[(u8, u8)]| {
        let rows: String = rows.iter().map(|(from, until)| row(*from, *until)).collect();
        let table = Table::from_toml(&format!("owner = \"450200\"\n{rows}")).unwrap();
        let all = Index::compile(&Tables { tables: vec![Arc::new(table)], ..tables("440600", &[]) }).unwrap_err();
        let clash = |objection: &Objection| match objection {
            Objection::Clash {
                first: RowRef::Row { number: a, .. }, second: RowRef::Row { number: b, .. }, ..
            } => (*a, *b),
            other => panic!("{other}"),
        };
        all.iter().map(clash).collect::<Vec<_>>()
    };
    assert_eq!(clashes(&[(1, 10), (2, 20), (15, 30)]), [(1, 2), (2, 3)]);
    assert_eq!(clashes(&[(1, 20), (2, 5), (8, 9)]), [(1, 2), (1, 3)]);
    assert_eq!(clashes(&[(1, 20), (2, 20), (3, 4)]), [(1, 2), (1, 3)], "of two the first");
}

#[test]
fn a_million_rows_are_read_and_one_more_is_not() {
    let text = "[[route]]\n".repeat(ROWS_MAX);
    let too_many = |text: &str| {
        let faults = Table::from_toml(text).unwrap_err();
        faults.iter().any(|fault| fault.what == format!("route: more than {ROWS_MAX} rows"))
    };
    assert!(!too_many(&text), "it is refused for its rows, not for their number");
    assert!(too_many(&format!("{text}[[route]]\n")));
}

#[test]
fn a_million_rows_are_compiled_and_one_more_is_not() {
    let mut table = Table::from_toml(PARTNER).unwrap();
    table.rows = vec![table.rows[0].clone(); 1_024];
    let table = Arc::new(table);
    let full = vec![table; ROWS_MAX / 1_024];
    let too_many = |all: Vec<Arc<Table>>| {
        let refused = Index::compile(&Tables { tables: all, ..tables("440600", &[]) }).unwrap_err();
        refused.iter().any(|objection| matches!(objection, Objection::TooMany { .. }))
    };
    assert!(!too_many(full.clone()), "it is refused for its rows, not for their number");
    let one = Arc::new(Table { rows: vec![full[0].rows[0].clone()], ..Table::clone(&full[0]) });
    assert!(too_many([full, vec![one]].concat()));
}

#[test]
fn a_plan_says_what_becomes_of_a_message() {
    let before = Table::from_toml(PARTNER).unwrap();
    let mut after = before.clone();
    after.rows.remove(1);
    let set = |version, table: &Table| Set { version, tables: [(table.owner.clone(), Arc::new(table.clone()))].into() };
    let compiled = |table: &Table| {
        Index::compile(&Tables { tables: vec![Arc::new(table.clone())], ..tables("440600", &[]) }).unwrap()
    };
    let plan = plan(&set(1, &before), &set(2, &after));
    let [change] = &plan.changes[..] else { panic!("{plan:?}") };
    let effect = change.effect(&compiled(&before), &compiled(&after), NOW).unwrap();
    assert_eq!(effect.before.unwrap().row.to_string(), "row 2 of 450200");
    assert_eq!(lanes(&effect.after), "450200 hub/main", "the next row takes what the exact one left");
}

#[test]
fn a_plan_looks_where_and_when_the_row_holds() {
    let set = |text: &str| {
        let table = Arc::new(Table::from_toml(text).unwrap());
        Set { version: 1, tables: [(table.owner.clone(), table)].into() }
    };
    let effects = |before: &str, after: &str| -> Vec<Option<(String, String)>> {
        let changes = plan(&set(before), &set(after)).changes;
        let (before, after) = (index(&[before]), index(&[after]));
        let effect = |change: &Change| {
            let effect = change.effect(&before, &after, NOW)?;
            Some((lanes(&effect.before), lanes(&effect.after)))
        };
        changes.iter().map(effect).collect()
    };
    let row = |division: &str, rest: &str, way: &str| {
        format!("[[route]]\ndivision = \"{division}\"\nitem = \"1\"\n{rest}via = [\"{way}\"]\n")
    };
    let (head, whole) = ("owner = \"450200\"\n", row("4502", "", "direct"));
    let seen = |before: &str, after: &str| effects(&format!("{head}{before}"), &format!("{head}{after}"));
    let moves = |from: &str, to: &str| vec![Some((from.to_owned(), to.to_owned()))];
    let district = row("450205", "", "hub/main");
    assert_eq!(seen(&whole, &format!("{whole}{district}")), moves("450200", "hub/main"), "in its own division");
    let next_year = row("450205", "valid_from = 2027-01-01\n", "hub/north");
    assert_eq!(seen(&whole, &format!("{whole}{next_year}")), moves("450200", "hub/north"), "on its first day");
    let last_year = row("450205", "valid_until = 2025-12-31\n", "hub/north");
    assert_eq!(seen(&whole, &format!("{whole}{last_year}")), [None], "it is over");
    let since = row("450205", "valid_from = 2025-01-01\nvalid_until = 2026-06-14\n", "hub/north");
    assert_eq!(seen(&whole, &format!("{whole}{since}")), [None], "it began, and is over today");
}
