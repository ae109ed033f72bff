//! The rules by number: their names, and what their parameters are.

use bpftwin_uapi::bcf::*;

/// What a step's parameters are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Params {
    /// Ids of expressions.
    Terms,
    /// An index, or a choice.
    Index,
    /// The id of an expression, then an index.
    TermIndex,
    /// The number of a rewrite, then ids of expressions.
    Rewrite,
    /// The header word of an expression.
    Header,
    /// Polarities of the pivots, a bit each in words, then the ids of the pivots.
    Pivots,
    /// Positions in a clause, packed.
    Packed,
}

/// A rule of the format.
#[derive(Debug)]
pub struct Rule {
    /// Class and number, as in a step's header.
    pub code: u16,
    pub name: &'static str,
    pub params: Params,
}

const fn core(number: u16, name: &'static str, params: Params) -> Rule {
    Rule { code: BCF_RULE_CORE | number, name, params }
}

const fn bool(number: u16, name: &'static str, params: Params) -> Rule {
    Rule { code: BCF_RULE_BOOL | number, name, params }
}

const fn bv(number: u16, name: &'static str, params: Params) -> Rule {
    Rule { code: BCF_RULE_BV | number, name, params }
}

/// Every rule, by class and number.
pub const RULES: &[Rule] = &[
    core(1, "ASSUME", Params::Terms),
    core(2, "EVALUATE", Params::Terms),
    core(3, "DISTINCT_VALUES", Params::Terms),
    core(4, "ACI_NORM", Params::Terms),
    core(5, "ABSORB", Params::Terms),
    core(6, "REWRITE", Params::Rewrite),
    core(7, "REFL", Params::Terms),
    core(8, "SYMM", Params::Terms),
    core(9, "TRANS", Params::Terms),
    core(10, "CONG", Params::Header),
    core(11, "TRUE_INTRO", Params::Terms),
    core(12, "TRUE_ELIM", Params::Terms),
    core(13, "FALSE_INTRO", Params::Terms),
    core(14, "FALSE_ELIM", Params::Terms),
    bool(1, "RESOLUTION", Params::Pivots),
    bool(2, "FACTORING", Params::Packed),
    bool(3, "REORDERING", Params::Packed),
    bool(4, "SPLIT", Params::Terms),
    bool(5, "EQ_RESOLVE", Params::Terms),
    bool(6, "MODUS_PONENS", Params::Terms),
    bool(7, "NOT_NOT_ELIM", Params::Terms),
    bool(8, "CONTRA", Params::Terms),
    bool(9, "AND_ELIM", Params::Index),
    bool(10, "AND_INTRO", Params::Terms),
    bool(11, "NOT_OR_ELIM", Params::Index),
    bool(12, "IMPLIES_ELIM", Params::Terms),
    bool(13, "NOT_IMPLIES_ELIM", Params::Index),
    bool(14, "EQUIV_ELIM", Params::Index),
    bool(15, "NOT_EQUIV_ELIM", Params::Index),
    bool(16, "XOR_ELIM", Params::Index),
    bool(17, "NOT_XOR_ELIM", Params::Index),
    bool(18, "ITE_ELIM", Params::Index),
    bool(19, "NOT_ITE_ELIM", Params::Index),
    bool(20, "NOT_AND", Params::Index),
    bool(21, "CNF_AND_POS", Params::TermIndex),
    bool(22, "CNF_AND_NEG", Params::Terms),
    bool(23, "CNF_OR_POS", Params::Terms),
    bool(24, "CNF_OR_NEG", Params::TermIndex),
    bool(25, "CNF_IMPLIES_POS", Params::Terms),
    bool(26, "CNF_IMPLIES_NEG", Params::TermIndex),
    bool(27, "CNF_EQUIV_POS", Params::TermIndex),
    bool(28, "CNF_EQUIV_NEG", Params::TermIndex),
    bool(29, "CNF_XOR_POS", Params::TermIndex),
    bool(30, "CNF_XOR_NEG", Params::TermIndex),
    bool(31, "CNF_ITE_POS", Params::TermIndex),
    bool(32, "CNF_ITE_NEG", Params::TermIndex),
    bool(33, "ITE_EQ", Params::Terms),
    bv(1, "BITBLAST", Params::Terms),
    bv(2, "POLY_NORM", Params::Terms),
    bv(3, "POLY_NORM_EQ", Params::Terms),
];

/// The rule with this code, if there is one.
pub fn rule_of(code: u16) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.code == code)
}

/// The name of a rule, for messages.
pub fn rule_name(code: u16) -> &'static str {
    rule_of(code).map_or("unknown", |rule| rule.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bcf::proof;

    #[test]
    fn the_table_has_what_the_format_has() {
        let known = |class, number| rule_of(class | number).is_some();
        for (class, last) in proof::RULES {
            assert!(
                (1..=last).all(|number| known(class, number)) && !known(class, last + 1) && !known(class, 0)
            );
        }
    }
}
