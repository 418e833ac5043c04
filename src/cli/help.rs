//! Decides how the command line is spoken of in Chinese: its help, and what clap says of a line that it cannot read. Never
//! changes what a line means.

pub mod words;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use self::words::{FIXED, WORDS};
use crate::lang;

/// The command, with the help of its whole tree in Chinese. What has no Chinese stays English, and a test names it.
pub fn in_chinese(command: Command) -> Command {
    let (about, long) = (said(command.get_about()), said(command.get_long_about()));
    let command = match about {
        Some(about) => command.about(about),
        None => command,
    };
    let command = match long {
        Some(long) => command.long_about(long),
        None => command,
    };
    command.mut_args(argument).mut_subcommands(in_chinese)
}

/// The Chinese of a text of the help.
pub fn chinese(en: &str) -> Option<&'static str> {
    WORDS.iter().find(|(text, _)| *text == en).map(|(_, zh)| *zh)
}

fn said(text: Option<&StyledStr>) -> Option<&'static str> {
    chinese(&text?.to_string())
}

fn argument(arg: Arg) -> Arg {
    let (help, long) = (said(arg.get_help()), said(arg.get_long_help()));
    let names: Option<Vec<&'static str>> =
        arg.get_value_names().and_then(|names| names.iter().map(|name| chinese(name)).collect());
    let arg = match help {
        Some(help) => arg.help(help),
        None => arg,
    };
    let arg = match long {
        Some(long) => arg.long_help(long),
        None => arg,
    };
    let arg = match arg.get_help_heading().and_then(chinese) {
        Some(heading) => arg.help_heading(heading),
        None => arg,
    };
    match names {
        Some(names) if arg.get_action().takes_values() => arg.value_names(names),
        _ => arg,
    }
}

/// What clap has to say, in Chinese: a fault of the line, help, or the version.
pub fn told(fault: &clap::Error) -> String {
    if !fault.use_stderr() || fault.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return refit(&fault.render().to_string());
    }
    let mut text = format!("错误：{}\n", what(fault));
    let listed = [ContextKind::ValidValue, ContextKind::ValidSubcommand].map(|kind| text_of(fault, kind));
    if let Some(listed) = listed.into_iter().flatten().next() {
        text += &format!("  可选：{listed}\n");
    }
    let near = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedCommand,
    ];
    if let Some(near) = near.into_iter().find_map(|kind| text_of(fault, kind)) {
        text += &format!("提示：是否应为 {near}？\n");
    }
    if let Some(usage) = text_of(fault, ContextKind::Usage) {
        text += &format!("\n{}\n", refit(&usage));
    }
    text + "\n详情请加 --help 查看。\n"
}

fn what(fault: &clap::Error) -> String {
    let said = |kind| text_of(fault, kind).unwrap_or_default();
    let (arg, value) = (said(ContextKind::InvalidArg), said(ContextKind::InvalidValue));
    match fault.kind() {
        ErrorKind::InvalidValue if value.is_empty() => format!("{arg} 缺少值"),
        ErrorKind::InvalidValue => format!("{arg} 没有 {value:?} 这个值"),
        ErrorKind::ValueValidation => format!("{arg} 的值 {value:?} 无效：{}", why(fault)),
        ErrorKind::UnknownArgument => format!("没有参数 {arg}"),
        ErrorKind::InvalidSubcommand => format!("没有命令 {}", said(ContextKind::InvalidSubcommand)),
        ErrorKind::MissingSubcommand => format!("{} 之后缺少命令", said(ContextKind::InvalidSubcommand)),
        ErrorKind::MissingRequiredArgument => format!("缺少必需的参数：{arg}"),
        ErrorKind::ArgumentConflict if said(ContextKind::PriorArg) == arg => format!("{arg} 只能给出一次"),
        ErrorKind::ArgumentConflict => format!("{arg} 不能与 {} 同时使用", said(ContextKind::PriorArg)),
        ErrorKind::NoEquals => format!("{arg} 与值之间须有等号"),
        ErrorKind::TooManyValues => format!("{arg} 不再接受更多的值：{value:?}"),
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => format!("{arg} 的值个数不对"),
        ErrorKind::InvalidUtf8 => "参数不是 UTF-8 文本".to_owned(),
        // Kinds that clap may add; its own words say more than none.
        _ => fault.to_string(),
    }
}

/// Why a value was not taken. A range is clap's own, and has no type to know it by.
fn why(fault: &clap::Error) -> String {
    let Some(cause) = std::error::Error::source(fault) else { return "写法不对".to_owned() };
    let range = || cause.to_string().rsplit_once(" is not in ").map(|(_, range)| format!("应在 {range} 之内"));
    lang::unfit_zh(cause).or_else(range).unwrap_or_else(|| cause.to_string())
}

fn text_of(fault: &clap::Error, kind: ContextKind) -> Option<String> {
    let text = match fault.get(kind)? {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(texts) => texts.join("、"),
        ContextValue::StyledStr(text) => text.to_string(),
        ContextValue::StyledStrs(texts) => texts.iter().map(StyledStr::to_string).collect::<Vec<_>>().join("、"),
        ContextValue::Number(number) => number.to_string(),
        _ => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

/// Clap's own words in help and usage, and those of possible values, which have no other door.
fn refit(text: &str) -> String {
    let possible = |line: &str| {
        let (_, help) = line.trim_start().strip_prefix("- ")?.split_once(": ")?;
        Some(line.replace(help.trim_start(), chinese(help.trim())?))
    };
    let mut text: String = text.split_inclusive('\n').map(|line| possible(line).unwrap_or(line.to_owned())).collect();
    for (en, zh) in FIXED {
        text = text.replace(en, zh);
    }
    text
}
