//! Decides what the sample of a configuration says: every setting with its words, its default and when a change takes
//! effect. Never says anything that the table of settings does not.

use std::fmt::Write;

use super::keys::{Effect, KEYS, Key, Need, Plain, SECTIONS};

const TOP: &str = "\
# 网关配置样例 · Sample of a gateway's configuration. Generated: `tongban config sample`.
# 相对路径以本文件所在目录为准 · Relative paths count from this file's folder.
# 其后依次覆盖：conf.d/*.toml、环境变量 TONGBAN_SECTION__NAME、命令行 --set section.name=value
# Over it lie, the later before the earlier: conf.d/*.toml, the environment, the command line. [[rows]] add up.
# 密钥只写文件路径 · Secrets stand in files of their own; here stand their paths.
";

/// A complete configuration file, in TOML; what is optional or as by default stands as a comment.
pub fn sample() -> String {
    let mut text = TOP.to_owned();
    for section in SECTIONS {
        let heading = if section.rows { format!("[[{}]]", section.name) } else { format!("[{}]", section.name) };
        let _ = write!(text, "\n# {} · {}\n{heading}\n", section.zh, section.en);
        for key in KEYS.iter().filter(|key| key.section == section.name) {
            let _ = writeln!(text, "# {} · {}{}", key.zh, key.en, takes_effect(key));
            let _ = match (key.name, key.need) {
                // One of the two must stand.
                ("city", _) | (_, Need::Required) => writeln!(text, "{} = {}", key.name, key.sample),
                (_, Need::Optional | Need::Default(Plain::Empty)) => writeln!(text, "# {} = {}", key.name, key.sample),
                (_, Need::Default(default)) => writeln!(text, "# {} = {default}", key.name),
            };
        }
    }
    text
}

fn takes_effect(key: &Key) -> &'static str {
    match key.effect {
        Effect::Live => "",
        Effect::NextStart => "（下次启动生效 · at the next start）",
        Effect::Restart => "（更改须重启 · a change takes a restart）",
    }
}
