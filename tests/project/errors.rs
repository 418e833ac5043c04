//! The published table of errors is the catalogue, word for word. `UPDATE=1 cargo test --test project errors` writes it anew.

use std::fmt::Write as _;

use tongban::reason::{Reason, Retry};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");

const HEAD: &str = "\
# Errors · 错误

Every error is a `google.rpc.Status` with `ErrorInfo` (this reason, domain `tongban`), `LocalizedMessage` in Chinese and
English, `BadRequest` naming every faulty field at once where fields are at fault, and `RetryInfo` (with
`grpc-retry-pushback-ms`) where the same request may be sent again. A refusal by rule carries its receipt among the details.
This page is made from the catalogue in `src/reason.rs`.

**Retry contract.** *later*: send the same request again, with the same message id and content, after `RetryInfo`; it is
accepted once, however often it is sent. *never*: sending it unchanged gets the same answer. `UNAVAILABLE` and
`DEADLINE_EXCEEDED` without a reason come from the connection: send the same request again.

**重试约定。** *later*：按 `RetryInfo` 等待后，以相同消息编号与内容重发；无论重发多少次只接收一次。*never*：原样重发结果不变。

| reason | gRPC status | retry | what happened | way out |
|---|---|---|---|---|
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for reason in Reason::ALL {
        let retry = match reason.retry() {
            Retry::Never => "never",
            Retry::Later => "later",
        };
        let (code, answer) = (reason.code(), reason.answer());
        let (what, way) = ((reason.en(), reason.zh()), (reason.hint_en(), reason.hint_zh()));
        writeln!(page, "| `{code}` | {answer:?} | {retry} | {}<br>{} | {}<br>{} |", what.0, what.1, way.0, way.1)
            .unwrap();
    }
    page
}

#[test]
fn the_published_table_is_the_catalogue() {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PATH, page()).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(PATH).unwrap_or_default(),
        page(),
        "run UPDATE=1 cargo test --test project errors"
    );
}
