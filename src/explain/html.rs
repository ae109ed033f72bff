//! Explanations as one page that needs nothing else.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::model::{BY_ITSELF, Explanation, Finding, Input, Line, Place, Rejection, proved_words};

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn page(explanations: &[Explanation]) -> String {
    let rejected: Vec<&Explanation> =
        explanations.iter().filter(|explanation| explanation.verdict != "accepted").collect();
    let accepted = explanations.len() - rejected.len();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "bpftwin explain" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Why the kernel rejects it" }
                    p { (explanations.len()) " programs, " (accepted) " accepted" }
                    @if rejected.len() > 1 { (contents(&rejected)) }
                }
                main {
                    @for (i, explanation) in rejected.iter().enumerate() { (program(i, explanation)) }
                }
            }
        }
    }
    .into_string()
}

fn contents(explanations: &[&Explanation]) -> Markup {
    html! {
        nav { ul {
            @for (i, explanation) in explanations.iter().enumerate() {
                li {
                    a href={ "#p" (i) } { (explanation.program) }
                    @for rejection in &explanation.rejections { " " (badge(&rejection.finding)) }
                }
            }
        } }
    }
}

fn program(index: usize, explanation: &Explanation) -> Markup {
    html! {
        section id={ "p" (index) } {
            h2 { (explanation.program) }
            p .origin { (explanation.object) " · " (explanation.prog_type) " · Linux " (explanation.kernel) }
            @if let Some(reason) = &explanation.reason { p { (explanation.verdict) ": " (reason) } }
            @for rejection in &explanation.rejections { (one(rejection)) }
            @if let Some(end) = explanation.end() { p .verdict { (end) } }
            @if !explanation.log.is_empty() {
                details { summary { "Log of the kernel" } pre { (explanation.log) } }
            }
        }
    }
}

fn badge(finding: &Finding) -> Markup {
    let class = match finding {
        Finding::Safe { .. } => "safe",
        Finding::Bug { .. } => "bug",
        Finding::Unknown { .. } => "unknown",
        Finding::NotAllowed { .. } => "none",
    };
    html! { span class={ "badge " (class) } { (finding.name()) } }
}

fn one(rejection: &Rejection) -> Markup {
    html! {
        article {
            h3 {
                (badge(&rejection.finding))
                @for line in rejection.message.lines() { " " code { (line) } br; }
            }
            @if let Some(place) = &rejection.place { (place_of(place)) }
            @if let Some(more) = rejection.other_paths() { p { "Also on " (more) "." } }
            @if rejection.by_itself { p { (BY_ITSELF) } }
            @if let Some(meaning) = rejection.meaning { p { (meaning) } }
            (finding(&rejection.finding))
            @if let Some(advice) = rejection.advice { p .advice { strong { "What to do. " } (advice) } }
            @if !rejection.values.is_empty() {
                h4 { "Where the values come from" }
                table {
                    @for value in &rejection.values {
                        tr {
                            td .at { (value.place.at()) }
                            td { code { (value.place.text) } }
                            td { (value.source.as_deref().unwrap_or_default()) }
                        }
                    }
                }
            }
            @if !rejection.path.is_empty() {
                details open[rejection.path.len() <= 40] {
                    summary { "The path: " (rejection.steps) " instructions, " (rejection.path.len()) " lines" }
                    table .path { @for (i, line) in rejection.path.iter().enumerate() { (path_line(line, i + 1 == rejection.path.len())) } }
                }
            }
        }
    }
}

fn source_text(place: &Place) -> &str {
    place.source.as_ref().map_or(&place.text, |source| &source.text)
}

fn place_of(place: &Place) -> Markup {
    html! {
        pre .place {
            @if let Some(source) = &place.source { (source.at()) "  " (source.text) "\n" }
            span .insn { (place.insn) ": " (place.text) }
        }
    }
}

fn path_line(line: &Line, is_last: bool) -> Markup {
    html! {
        tr .here[is_last] {
            td .at { (line.at) @if line.visits > 1 { " ×" (line.visits) } }
            td { code { (line.text) } }
            td .ways { @for branch in &line.branches { span { (branch.way()) } } }
        }
    }
}

fn finding(finding: &Finding) -> Markup {
    match finding {
        Finding::Safe { proved, proof_bytes, prove_us, because, .. } => html! {
            p .verdict {
                "Safe: " (proved_words(proved)) "."
                @if *proof_bytes != 0 {
                    " Proved in " (millis(*prove_us)) " ms; the proof has " (proof_bytes) " bytes, and was checked step by step."
                }
            }
            @if !because.is_empty() {
                h4 { "What the proof puts together" }
                table { @for fact in because {
                    tr { td .at { (fact.place.at()) } td { code { (source_text(&fact.place)) } } td { (fact.text) } }
                } }
            }
        },
        Finding::Bug { inputs, fault } => html! {
            @let decides = inputs.iter().any(|input| input.decisive);
            p .verdict { "A bug. A run " (if decides { "on the inputs below" } else { "on any input" }) ": " (fault) "." }
            @if decides {
                h4 { "Inputs" }
                table { @for input in inputs.iter().filter(|input| input.decisive) { (input_row(input)) } }
            }
            @let others = inputs.iter().filter(|input| !input.decisive).count();
            @if others != 0 {
                details {
                    summary { (others) " more that decide nothing" }
                    table { @for input in inputs.iter().filter(|input| !input.decisive) { (input_row(input)) } }
                }
            }
        },
        Finding::Unknown { why } => html! { p .verdict { "Unknown: " (why) "." } },
        Finding::NotAllowed { why } => html! { p .verdict { "Not allowed: " (why) "." } },
    }
}

fn input_row(input: &Input) -> Markup {
    html! {
        tr {
            td .at { (input.place.at()) }
            td { (input.what) }
            td { code {
                @if let Some(choice) = input.choice() { (choice) }
                @else { (input.value) @if input.value > 9 { " " span .insn { (format!("{:#x}", input.value)) } } }
            } }
        }
    }
}

fn millis(us: u64) -> String {
    format!("{:.1}", us as f64 / 1000.0)
}
