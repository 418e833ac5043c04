//! Decides how `tongban reload` tells what a gateway took up of its changed configuration. Never reads the configuration
//! itself: the gateway does, on its own machine.

use clap::Args;
use serde_json::json;

use super::client::{As, Reloaded, converse};
use super::{Answer, Exit, Lang, Out};

/// Let a running gateway read its configuration, certificates, revocation lists and directory again
#[derive(Args)]
pub struct Reload {
    #[command(flatten)]
    who: As,
}

/// Asks for it; exit 78 when the gateway kept what it had.
pub fn run(command: &Reload, out: &Out) -> Answer {
    converse(&command.who, async |client| {
        let told = client.reload().await.map_err(|trouble| trouble.shown(out))?;
        let taken = told.faults.is_empty();
        out.show(&json!({ "taken_up": taken, "reload": told }), || shown(&told, out.lang))?;
        if !taken {
            out.hint("what held before holds on; mend the faults and reload again", "原配置继续生效；请修正后再次重载");
        }
        Ok(if taken { Exit::Done } else { Exit::Config })
    })
}

fn shown(told: &Reloaded, lang: Lang) -> String {
    if !told.faults.is_empty() {
        let head = lang.tr("nothing was taken up:", "未采用任何更改：").to_owned();
        return std::iter::once(head)
            .chain(told.faults.iter().map(|fault| format!("  {fault}")))
            .collect::<Vec<_>>()
            .join("\n");
    }
    let list = |names: &[String]| names.join(", ");
    let mut lines = vec![match told.changed.is_empty() {
        true => lang.tr("nothing has changed", "没有更改").to_owned(),
        false => lang.tr(format!("taken up: {}", list(&told.changed)), format!("已采用：{}", list(&told.changed))),
    }];
    let later = list(&told.at_next_start);
    lines.extend((!later.is_empty()).then(|| {
        lang.tr(format!("takes effect at the next start alone: {later}"), format!("下次启动后才生效：{later}"))
    }));
    let cut = told.cut;
    lines.extend((cut > 0).then(|| lang.tr(format!("connections cut: {cut}"), format!("已断开连接：{cut}"))));
    lines.join("\n")
}
