use super::*;
use crate::emit::{EmitOptions, Form, emit};
use crate::image::PolicyImage;
use crate::ir::generate::{Shape, flows, policy};
use crate::ir::{self, Criterion, Flow, PolicyIr, Rule, Verdict};

/// A run as the walk wants it: the first slot of everything that should run.
fn pretend(image: &PolicyImage, walk: &Walk) -> Ran {
    let outcome = &walk.outcome;
    Ran {
        verdict: outcome.verdict,
        decision: outcome.decision.as_u32(),
        logged: outcome.logged.len() as u32,
        last_log: outcome.logged.last().map(|d| d.as_u32()),
        steps: image.programs[0].code.iter().map(|(slot, _)| (0, slot)).collect(),
    }
}

#[test]
fn a_walk_ends_where_the_evaluator_does() {
    let mut chains = 0;
    for seed in 0..400 {
        let ir = policy(seed, &Shape::default());
        for flow in flows(&ir, seed, 10) {
            let walk = walk(&ir, &flow);
            let reached: Vec<&ChainWalk> =
                walk.chains.iter().filter(|c| c.ended != Ended::NotReached).collect();
            let last = reached.last().unwrap();
            let decision = match last.ended {
                Ended::By(rule) => ir.rules[rule].decision,
                _ => match ir.chains[last.chain].end {
                    ir::ChainEnd::Allow(d) | ir::ChainEnd::Deny(d) => d,
                    ir::ChainEnd::Pass => panic!("seed {seed}: ends in a pass"),
                },
            };
            assert_eq!(decision, walk.outcome.decision, "seed {seed} {flow:?}");
            chains += reached.len();
        }
    }
    assert!(chains > 5_000, "{chains}");
}

#[test]
fn a_run_of_everything_agrees_with_no_walk() {
    let (mut refused, mut agreed) = (0, 0);
    for seed in 0..60 {
        let ir = policy(seed, &Shape { rules: 12, ..Shape::default() });
        let image = emit(&ir, &EmitOptions { form: Form::Chain, ..EmitOptions::default() }).unwrap();
        for flow in flows(&ir, seed, 5) {
            let mut walk = walk(&ir, &flow);
            let ran = pretend(&image, &walk);
            match agree(&ir, &mut walk, &image, &ran) {
                Err(Disagreement::Outcome { .. }) => panic!("seed {seed}: the outcome is the same"),
                Err(_) => refused += 1,
                // A first rule that always decides leaves no other instructions.
                Ok(()) => agreed += 1,
            }
        }
    }
    assert!(refused > 200 && agreed < 30, "{refused} {agreed}");
}

#[test]
fn another_outcome_is_told_first() {
    let ir = policy(1, &Shape::default());
    let image = emit(&ir, &EmitOptions { form: Form::Chain, ..EmitOptions::default() }).unwrap();
    let flow = flows(&ir, 1, 1)[0];
    let mut found = walk(&ir, &flow);
    let mut ran = pretend(&image, &found);
    ran.verdict = if ran.verdict == Verdict::Allow { Verdict::Deny } else { Verdict::Allow };
    let error = agree(&ir, &mut found, &image, &ran).unwrap_err();
    assert!(matches!(error, Disagreement::Outcome { .. }), "{error}");
    assert!(error.to_string().contains("decision"), "{error}");
}

const POLICY: &str = r#"
    policy "shop/web" ingress
    decision0 = rule allow index 0 name "p"
    decision1 = tier-default deny name "default"
    set0 = nets "10.0.0.0/8, 192.168.0.0/16" { 10.0.0.0/8, 192.168.0.0/16 }
    set1 = members "app == 'web'" { 10.1.0.1/32 }
    set2 = members "all() [http tcp/8080]" { 10.9.0.1/32 }
    set3 = nets "10.5.0.0/16" { 10.5.0.0/16 }
    chain0 "default" {
      RULE
    } deny decision1
    order chain0"#;

fn tcp(src: &str, dst: &str, dport: u16) -> Flow {
    Flow {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        protocol: 6,
        ports: Some((32768, dport)),
        icmp: None,
    }
}

#[test]
fn reasons_in_the_users_terms() {
    let web = tcp("10.1.0.1", "10.2.0.1", 81);
    let udp = Flow { protocol: 17, ..web };
    let echo = Flow { protocol: 1, ports: None, icmp: Some((8, 0)), ..web };
    let cases = [
        ("family v6", web, "the packet is IPv4, the rule speaks about IPv6"),
        ("proto tcp", udp, "protocol udp is not tcp"),
        ("proto 47", udp, "protocol udp is not 47"),
        ("not proto udp", udp, "protocol udp is excluded"),
        ("icmp 3/1", echo, "icmp type 8 code 0 is not type 3 code 1"),
        ("icmp 3", web, "a packet of protocol tcp without icmp type is not type 3"),
        ("not icmp 8", echo, "icmp type 8 code 0 is excluded"),
        ("dport 80, 443", web, "destination port 81 is none of 80, 443"),
        ("dport 80, 8000-8100", echo, "the packet has no destination port"),
        ("sport 1-9", web, "source port 32768 is not 1-9"),
        ("not dport 80-90", web, "destination port 81 is excluded"),
        ("dport tcp/8080 in set2", web, "destination port 81 is not http (tcp/8080)"),
        (
            "dport tcp/8080 in set2",
            tcp("10.1.0.1", "10.2.0.1", 8080),
            "destination port 8080 is not http (tcp/8080) (the name has no such number at 10.2.0.1)",
        ),
        (
            "src in set0",
            tcp("11.0.0.1", "10.2.0.1", 80),
            "source 11.0.0.1 is not in 10.0.0.0/8, 192.168.0.0/16",
        ),
        ("dst in set1", web, "destination 10.2.0.1 is not selected by app == 'web'"),
        (
            "src in set0; src not in set3",
            tcp("10.5.1.1", "10.2.0.1", 80),
            "source 10.5.1.1 is excluded by 10.5.0.0/16",
        ),
        ("src not in set1", web, "source 10.1.0.1 is selected by app == 'web', which is excluded"),
    ];
    for (criteria, flow, want) in cases {
        let text = POLICY.replace("RULE", &format!("rule0: {criteria} -> allow decision0"));
        let ir: PolicyIr = ir::parse(&text).unwrap_or_else(|e| panic!("{criteria}: {e}"));
        ir::verify(&ir).unwrap();
        let rule = &ir.rules[Rule::from_u32(0)];
        let criterion: Criterion = ir::first_failed(&ir, &rule.matches, &flow).unwrap();
        assert_eq!(words::reason(&ir, rule, criterion, &flow).0, want, "{criteria}");
    }
}
