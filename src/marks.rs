//! Decides which codes of a message look doubtful, and says so beside them. Never refuses one: of published codes one in seven
//! is irregular, and a real body is known to fail its own check digit.

/// Why a text looks doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// An item code (事项实施编码) has 31 or 33 characters, of which the 19th is a level from 1 to 6.
    ItemShape,
    /// An item code begins with the unified social credit code of the body that is in charge.
    ItemBody,
    /// A step is none of those that exchanges have in common.
    StepUnknown,
    /// A resident's id stands where systems, operators and receipts see it.
    ResidentId,
}

impl Mark {
    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Mark::ItemShape => "ITEM_SHAPE",
            Mark::ItemBody => "ITEM_BODY",
            Mark::StepUnknown => "STEP_UNKNOWN",
            Mark::ResidentId => "RESIDENT_ID",
        }
    }

    /// What it says, in English and in Chinese.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Mark::ItemShape => {
                ("not the shape of an item code (31 or 33 characters)", "不是事项实施编码的形式（31 或 33 位）")
            }
            Mark::ItemBody => (
                "the first 18 characters are no valid unified social credit code",
                "前 18 位不是有效的统一社会信用代码",
            ),
            Mark::StepUnknown => ("not a step that others know", "不是通用的办理环节"),
            Mark::ResidentId => {
                ("holds a resident's id, which belongs into the contents alone", "含有居民身份证号码，只应放在内容中")
            }
        }
    }
}

/// The steps that real exchanges have in common: apply, pre-accept, accept or refuse, supplement, review, special procedure,
/// conclude, hand out, evaluate; withdraw.
pub const STEPS: [&str; 11] = [
    "apply",
    "pre-accept",
    "accept",
    "refuse",
    "supplement",
    "review",
    "special",
    "conclude",
    "hand-out",
    "evaluate",
    "withdraw",
];

/// What looks doubtful in a message's header, field by field; what is not given is empty.
pub fn of_header<'a>(
    (item_code, step, case_no): (&str, &str, &str),
    part_names: impl IntoIterator<Item = &'a str>,
) -> Vec<(String, Mark)> {
    let items = of_item(item_code).into_iter().map(|mark| ("item_code".to_owned(), mark));
    let step = of_step(step).map(|mark| ("step".to_owned(), mark));
    let case_no = of_text(case_no).map(|mark| ("case_no".to_owned(), mark));
    let names = part_names.into_iter().enumerate();
    let names = names.filter_map(|(place, name)| of_text(name).map(|mark| (format!("parts[{place}].name"), mark)));
    items.chain(step).chain(case_no).chain(names).collect()
}

/// What looks doubtful in an item code. Both marks may stand: the first says nothing of the body.
pub fn of_item(code: &str) -> Vec<Mark> {
    let shaped =
        [31, 33].contains(&code.len()) && code.as_bytes().get(18).is_some_and(|level| (b'1'..=b'6').contains(level));
    let body = code.get(..18).is_some_and(is_credit_code);
    [(!shaped, Mark::ItemShape), (!body, Mark::ItemBody)]
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, mark)| mark)
        .collect()
}

/// What looks doubtful in a step; nothing in one that is not given.
pub fn of_step(step: &str) -> Option<Mark> {
    (!step.is_empty() && !STEPS.contains(&step)).then_some(Mark::StepUnknown)
}

/// Whether a resident's id (GB 11643: 18 characters with a check character, a date among them) stands in a text that others
/// than the recipient see. A longer run of digits is none.
pub fn of_text(text: &str) -> Option<Mark> {
    let runs = text.split(|c: char| !c.is_ascii_digit() && !c.eq_ignore_ascii_case(&'x'));
    runs.into_iter().any(is_resident_id).then_some(Mark::ResidentId)
}

/// A unified social credit code (GB 32100-2015): 18 characters, the last a check over the others, modulo 31.
pub fn is_credit_code(code: &str) -> bool {
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
    let values: Option<Vec<usize>> =
        code.bytes().map(|byte| ALPHABET.iter().position(|letter| *letter == byte)).collect();
    let Some((check, others)) = values.as_deref().and_then(|values| values.split_last()) else { return false };
    let weights = std::iter::successors(Some(1), |weight| Some(weight * 3 % 31));
    let sum: usize = others.iter().zip(weights).map(|(value, weight)| value * weight).sum();
    code.len() == 18 && (31 - sum % 31) % 31 == *check
}

/// A resident's id (GB 11643-1999), its check character over the others, modulo 11.
pub fn is_resident_id(id: &str) -> bool {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let bytes = id.as_bytes();
    if bytes.len() != 18 || !bytes[..17].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let number = |range: std::ops::Range<usize>| id[range].parse::<u32>().unwrap_or_default();
    let dated = (1800..2200).contains(&number(6..10))
        && (1..=12).contains(&number(10..12))
        && (1..=31).contains(&number(12..14));
    let sum: u32 = bytes.iter().zip(WEIGHTS).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    dated && b"10X98765432"[sum as usize % 11] == bytes[17].to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_item_codes_bear_no_mark() {
        for code in ["11440232MB2D06811W4000117051000", "11440100007482575H3440118009000"] {
            assert_eq!(of_item(code), [], "{code}");
        }
    }

    #[test]
    fn an_item_code_is_marked_for_its_shape_and_for_its_body() {
        let cases: [(&str, &[Mark]); 5] = [
            ("DEMO-001", &[Mark::ItemShape, Mark::ItemBody]),
            ("11440100007482575H344011800900", &[Mark::ItemShape]),
            ("11440100007482575H7440118009000", &[Mark::ItemShape]),
            ("11440100007482576H3440118009000", &[Mark::ItemBody]),
            ("", &[Mark::ItemShape, Mark::ItemBody]),
        ];
        for (code, marks) in cases {
            assert_eq!(of_item(code), marks, "{code:?}");
        }
    }

    #[test]
    fn every_single_changed_digit_breaks_a_credit_code_and_a_resident_id() {
        type Judge = fn(&str) -> bool;
        let cases: [(&str, Judge); 2] =
            [("11440100007482575H", is_credit_code), ("11010519491231002X", is_resident_id)];
        for (good, judge) in cases {
            assert!(judge(good));
            for place in 0..17 {
                for digit in '0'..='9' {
                    let bad: String =
                        good.chars().enumerate().map(|(at, c)| if at == place { digit } else { c }).collect();
                    assert_eq!(judge(&bad), bad == good, "{bad}");
                }
            }
        }
    }

    #[test]
    fn a_credit_code_whose_sum_is_a_multiple_of_31_ends_in_zero() {
        // 000000000000000000: the sum is 0, and so is the check.
        assert!(is_credit_code(&"0".repeat(18)));
        assert!(!is_credit_code(&format!("{}1", "0".repeat(17))));
    }

    #[test]
    fn a_resident_id_is_found_inside_a_text_and_a_longer_number_is_none() {
        let cases = [
            ("case 11010519491231002X of today", true),
            ("11010519491231002x", true),
            ("扫描件11010519491231002X.pdf", true),
            ("4311010519491231002X", false),
            ("110105194912310021", false),
            ("", false),
        ];
        for (text, holds) in cases {
            assert_eq!(of_text(text).is_some(), holds, "{text:?}");
        }
    }

    #[test]
    fn steps_that_others_know_bear_no_mark() {
        assert!(STEPS.iter().all(|step| of_step(step).is_none() && step.parse::<crate::message::Step>().is_ok()));
        assert_eq!((of_step(""), of_step("dance")), (None, Some(Mark::StepUnknown)));
    }
}
