//! Broadcast state: what is undone, and what is refused.

use crate::{BroadcastBackend, BroadcastMaps, BroadcastState, StateError};

type Rules = BroadcastState<u32, String>;

fn shown(rules: &Rules, maps: &BroadcastMaps) -> Vec<(u32, String)> {
    let entries = rules.entries(maps).unwrap();
    entries.map(|(name, value)| (*name, value.clone())).collect()
}

/// Rules 3, 1 and 2, and whether changes are remembered.
fn three(keeps_undo: bool) -> (BroadcastBackend, Rules) {
    let mut states = BroadcastBackend::default();
    let rules: Rules = states.declare("rules").unwrap();
    if keeps_undo {
        states.keep_undo();
    }
    for name in [3, 1, 2] {
        states.begin();
        rules.put(states.maps_mut(), name, format!("rule {name}")).unwrap();
    }
    states.begin();
    (states, rules)
}

fn change(rules: &Rules, maps: &mut BroadcastMaps) {
    rules.put(maps, 1, "another".to_owned()).unwrap();
    rules.put(maps, 4, "new".to_owned()).unwrap();
    assert_eq!(rules.remove(maps, &4).unwrap().as_deref(), Some("new"));
    assert_eq!(rules.remove(maps, &2).unwrap().as_deref(), Some("rule 2"));
    assert_eq!(rules.remove(maps, &5).unwrap(), None);
    rules.clear(maps).unwrap();
    rules.put(maps, 6, "last".to_owned()).unwrap();
}

#[test]
fn entries_come_in_order_of_their_names() {
    let (states, rules) = three(false);
    let names: Vec<u32> = rules.entries(states.maps()).unwrap().map(|(name, _)| *name).collect();
    assert_eq!(names, [1, 2, 3]);
}

#[test]
fn changes_since_the_last_record_are_taken_back() {
    let (mut states, rules) = three(true);
    let before = shown(&rules, states.maps());
    change(&rules, states.maps_mut());
    states.take_back().unwrap();
    assert_eq!(shown(&rules, states.maps()), before);
    change(&rules, states.maps_mut());
    states.begin();
    states.take_back().unwrap();
    assert_eq!(shown(&rules, states.maps()), [(6, "last".to_owned())]);
}

#[test]
fn each_state_has_a_name_and_a_schema() {
    let mut states = BroadcastBackend::default();
    states.declare::<u32, String>("rules").unwrap();
    states.declare::<String, Vec<u64>>("names").unwrap();
    let twice = states.declare::<u32, u32>("rules").unwrap_err();
    assert!(matches!(twice, StateError::Duplicate(name) if name == "rules"));
    let schemas = states.schemas().map(|(name, schema)| format!("{name}: {schema}"));
    assert_eq!(
        schemas.collect::<Vec<_>>(),
        ["rules: map<u32, string>", "names: map<string, [u64]>"]
    );
}

#[test]
fn a_handle_of_another_operator_is_refused() {
    let (states, _) = three(false);
    let mut others = BroadcastBackend::default();
    let other: BroadcastState<u32, u64> = others.declare("others").unwrap();
    let refused = other.get(states.maps(), &1).unwrap_err();
    assert!(matches!(refused, StateError::Foreign("others")));
}
