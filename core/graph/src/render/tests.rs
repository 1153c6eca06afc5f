//! Golden plans.

use expect_test::expect;

use super::*;
use crate::stream_graph::Chaining;
use crate::testing::{Builder, word_count};

#[test]
fn json_has_flinks_shape() {
    let plan = plan_info(&word_count().plan(), JobId::from_u128(7));
    // Fields by name, as REST sends them.
    let json = serde_json::to_value(&plan).unwrap();
    expect![[r#"
        {
          "jid": "00000000000000000000000000000007",
          "name": "test",
          "nodes": [
            {
              "description": "Source: lines<br/>+- words<br/>",
              "id": "bb723dc8a1d63fe8d5a8d5f1b89f66fd",
              "operator": "",
              "operator_strategy": "",
              "optimizer_properties": {},
              "parallelism": 2
            },
            {
              "description": "count<br/>+- Sink: out<br/>",
              "id": "d519c50639c8fd605ac5921402881e45",
              "inputs": [
                {
                  "exchange": "pipelined_bounded",
                  "id": "bb723dc8a1d63fe8d5a8d5f1b89f66fd",
                  "num": 0,
                  "ship_strategy": "HASH"
                }
              ],
              "operator": "",
              "operator_strategy": "",
              "optimizer_properties": {},
              "parallelism": 2
            }
          ],
          "type": "STREAMING"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&json).unwrap());
}

#[test]
fn descriptions_are_trees_and_escaped() {
    let mut graph = Builder::default();
    let source = graph.source("<in>");
    let split = graph.operator("a & \"b\"", [source]);
    let left = graph.operator("left", [split]);
    graph.sink("one", left);
    graph.sink("two", split);
    let plan = plan_info(&graph.plan(), JobId::from_u128(0));
    expect![[r#"
        Source: &lt;in&gt;<br/>
        +- a &amp; &quot;b&quot;<br/>
           :- left<br/>
           :  +- Sink: one<br/>
           +- Sink: two<br/>
    "#]]
    .assert_eq(&plan.nodes[0].description.replace("<br/>", "<br/>\n"));
}

#[test]
fn text_says_where_records_come_from() {
    let mut graph = word_count();
    let odd = graph.sink("odd lines", NodeId(1));
    graph.last_edge().output = OutputName::Side("odd".to_owned());
    graph.at(odd).chaining = Chaining::Never;
    let connected = graph.operator("connected", [NodeId(2), NodeId(1)]);
    graph.last_edge().input = 1;
    graph.sink("end", connected);
    expect![[r#"
        Job "test": STREAMING, vertices 4, exchanges 4, slots 2, fingerprint d5ab0117be2fe65b

        Vertex 1, id bb723dc8a1d63fe8d5a8d5f1b89f66fd, parallelism 2 (at most 128), slot sharing group "default"
          Source: lines: u64
          +- words: u64

        Vertex 2, id d519c50639c8fd605ac5921402881e45, parallelism 2 (at most 128), slot sharing group "default"
          <- vertex 1 by HASH
          count (uid "count"): (alloc::string::String, u64)
          +- Sink: out: u64

        Vertex 3, id fe9aa8d6ae5c45179cf1a18ddb4233f1, parallelism 2 (at most 128), slot sharing group "default"
          <- vertex 1, subtask to subtask (FORWARD), side output "odd"
          Sink: odd lines: u64

        Vertex 4, id 4ace922783d82a3df39664d7178eddc1, parallelism 2 (at most 128), slot sharing group "default"
          <- vertex 2, subtask to subtask (FORWARD)
          <- vertex 1, subtask to subtask (FORWARD), into the second input
          connected: u64
          +- Sink: end: u64
    "#]].assert_eq(&plan_text(&graph.plan()));
}
