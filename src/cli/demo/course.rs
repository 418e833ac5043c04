//! Decides the course of each case of the demo: between which cities, over which steps, and whether it is refused. A function of
//! the case's number and mode alone. Never presents a course as the law's.

use super::cast::{CITIES, City, LIUZHOU};
use crate::message::Mode;

/// One message of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    pub step: &'static str,
    pub by: Side,
    /// The name of its document.
    pub part: &'static str,
}

/// Whose part it is to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The city where the applicant is.
    Applicant,
    /// The city whose office decides.
    Competent,
}

/// Of so many cases one is refused, and one has to be supplemented.
const REFUSED: (usize, usize) = (7, 3);
const SUPPLEMENTED: (usize, usize) = (3, 1);
/// Of so many cases one comes to Liuzhou.
const TO_LIUZHOU: usize = 3;

const fn act(step: &'static str, by: Side, part: &'static str) -> Act {
    Act { step, by, part }
}

/// The messages of a case, in order. One that is refused ends with its application.
pub fn course(number: usize, mode: Option<Mode>) -> Vec<Act> {
    let mut acts = vec![act("apply", Side::Applicant, "申请表.json")];
    if is_refused(number) {
        return acts;
    }
    acts.push(act("accept", Side::Competent, "受理通知.json"));
    if number % SUPPLEMENTED.0 == SUPPLEMENTED.1 {
        acts.push(act("supplement", Side::Competent, "补正通知.json"));
        acts.push(act("supplement", Side::Applicant, "补正材料.json"));
    }
    acts.push(act("review", Side::Competent, "审查情况.json"));
    acts.push(act("conclude", Side::Competent, "办理结果.json"));
    // Where a window acts for the applicant it hands the result out itself, and says so.
    let by = if mode == Some(Mode::Proxy) { Side::Applicant } else { Side::Competent };
    acts.push(act("hand-out", by, "送达记录.json"));
    acts
}

/// Whether the office refuses to take the case.
pub fn is_refused(number: usize) -> bool {
    number % REFUSED.0 == REFUSED.1
}

/// The city where the applicant is, and the one whose office decides.
pub fn cities(number: usize) -> (&'static City, &'static City) {
    let partner = CITIES[1 + number.saturating_sub(1) % (CITIES.len() - 1)];
    if number.is_multiple_of(TO_LIUZHOU) { (partner, &LIUZHOU) } else { (&LIUZHOU, partner) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn twenty_cases_show_every_course_between_liuzhou_and_everyone() {
        let refused: Vec<usize> = (1..=20).filter(|number| is_refused(*number)).collect();
        assert_eq!(refused, [3, 10, 17]);
        let pairs: BTreeSet<_> = (1..=20).map(cities).map(|(from, to)| (from.code, to.code)).collect();
        assert_eq!(pairs.len(), 8, "{pairs:?}");
        assert!(pairs.iter().all(|(from, to)| (*from == LIUZHOU.code) != (*to == LIUZHOU.code)));
        let steps = |number, mode| course(number, mode).iter().map(|act| (act.step, act.by)).collect::<Vec<_>>();
        use Side::{Applicant as A, Competent as C};
        assert_eq!(steps(3, None), [("apply", A)]);
        assert_eq!(
            steps(1, Some(Mode::Proxy)),
            [
                ("apply", A),
                ("accept", C),
                ("supplement", C),
                ("supplement", A),
                ("review", C),
                ("conclude", C),
                ("hand-out", A)
            ]
        );
        let whole = [("apply", A), ("accept", C), ("review", C), ("conclude", C), ("hand-out", C)];
        assert_eq!(steps(2, Some(Mode::Online)), whole);
    }
}
