//! The table of rules.

use bpftwin_uapi::bcf::*;

use super::{Checker, Fact, RuleError, aci, boolean, bv, cnf, core, resolution};
use crate::bcf::proof::Step;

/// From a step to its fact.
pub(super) type Apply = fn(&mut Checker<'_>, &Step<'_>) -> Result<Fact, RuleError>;

pub struct Rule {
    /// The published checker's name.
    pub name: &'static str,
    pub(super) apply: Apply,
}

const fn rule(name: &'static str, apply: Apply) -> Rule {
    Rule { name, apply }
}

/// Class 0x0000, from number 1.
pub static CORE: [Rule; 14] = [
    rule("ASSUME", core::assume),
    rule("EVALUATE", core::evaluate),
    rule("DISTINCT_VALUES", core::distinct_values),
    rule("ACI_NORM", aci::aci_norm),
    rule("ABSORB", aci::absorb),
    rule("REWRITE", core::apply_rewrite),
    rule("REFL", core::refl),
    rule("SYMM", core::symm),
    rule("TRANS", core::trans),
    rule("CONG", core::cong),
    rule("TRUE_INTRO", core::true_intro),
    rule("TRUE_ELIM", core::true_elim),
    rule("FALSE_INTRO", core::false_intro),
    rule("FALSE_ELIM", core::false_elim),
];

/// Class 0x2000.
pub static BOOL: [Rule; 33] = [
    rule("RESOLUTION", resolution::resolution),
    rule("FACTORING", resolution::factoring),
    rule("REORDERING", resolution::reordering),
    rule("SPLIT", boolean::split),
    rule("EQ_RESOLVE", boolean::eq_resolve),
    rule("MODUS_PONENS", boolean::modus_ponens),
    rule("NOT_NOT_ELIM", boolean::not_not_elim),
    rule("CONTRA", boolean::contra),
    rule("AND_ELIM", boolean::and_elim),
    rule("AND_INTRO", boolean::and_intro),
    rule("NOT_OR_ELIM", boolean::not_or_elim),
    rule("IMPLIES_ELIM", boolean::implies_elim),
    rule("NOT_IMPLIES_ELIM", boolean::not_implies_elim),
    rule("EQUIV_ELIM", boolean::equiv_elim),
    rule("NOT_EQUIV_ELIM", boolean::not_equiv_elim),
    rule("XOR_ELIM", boolean::xor_elim),
    rule("NOT_XOR_ELIM", boolean::not_xor_elim),
    rule("ITE_ELIM", boolean::ite_elim),
    rule("NOT_ITE_ELIM", boolean::not_ite_elim),
    rule("NOT_AND", boolean::not_and),
    rule("CNF_AND_POS", cnf::and_pos),
    rule("CNF_AND_NEG", cnf::and_neg),
    rule("CNF_OR_POS", cnf::or_pos),
    rule("CNF_OR_NEG", cnf::or_neg),
    rule("CNF_IMPLIES_POS", cnf::implies_pos),
    rule("CNF_IMPLIES_NEG", cnf::implies_neg),
    rule("CNF_EQUIV_POS", cnf::equiv_pos),
    rule("CNF_EQUIV_NEG", cnf::equiv_neg),
    rule("CNF_XOR_POS", cnf::xor_pos),
    rule("CNF_XOR_NEG", cnf::xor_neg),
    rule("CNF_ITE_POS", cnf::ite_pos),
    rule("CNF_ITE_NEG", cnf::ite_neg),
    rule("ITE_EQ", cnf::ite_eq),
];

/// Class 0x4000.
pub static BV: [Rule; 3] = [
    rule("BITBLAST", bv::bitblast),
    rule("POLY_NORM", bv::poly_norm),
    rule("POLY_NORM_EQ", bv::poly_norm_eq),
];

/// The rule with this number, class included.
#[inline]
pub fn rule_of(number: u16) -> Option<&'static Rule> {
    let rules: &[Rule] = match number & 0xe000 {
        BCF_RULE_CORE => &CORE,
        BCF_RULE_BOOL => &BOOL,
        BCF_RULE_BV => &BV,
        _ => return None,
    };
    rules.get(usize::from(number & 0x1fff).wrapping_sub(1))
}

/// The rule's name; "?" where there is no rule.
pub fn name(number: u16) -> &'static str {
    rule_of(number).map_or("?", |rule| rule.name)
}

/// The number, class included, of the rule with this name.
pub fn number(name: &str) -> Option<u16> {
    let classes = [(BCF_RULE_CORE, &CORE[..]), (BCF_RULE_BOOL, &BOOL), (BCF_RULE_BV, &BV)];
    classes.into_iter().find_map(|(class, rules)| {
        (class + 1..).zip(rules).find(|(_, rule)| rule.name == name).map(|(number, _)| number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bcf::proof::RULES;

    #[test]
    fn the_format_and_the_table_know_the_same_rules() {
        for (class, last) in RULES {
            for rule in class + 1..=class + last {
                assert_eq!(number(name(rule)), Some(rule));
            }
            assert!(rule_of(class).is_none() && rule_of(class + last + 1).is_none());
        }
        for (rule, expected) in [
            (BCF_RULE_REWRITE, "REWRITE"),
            (BCF_RULE_FALSE_ELIM, "FALSE_ELIM"),
            (BCF_RULE_CONTRA, "CONTRA"),
            (BCF_RULE_CNF_AND_POS, "CNF_AND_POS"),
            (BCF_RULE_ITE_EQ, "ITE_EQ"),
            (BCF_RULE_POLY_NORM_EQ, "POLY_NORM_EQ"),
        ] {
            assert_eq!(name(rule), expected);
        }
    }
}
