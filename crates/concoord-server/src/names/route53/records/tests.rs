use super::*;

const DOMAIN: &str = "counterdomain.com";

fn set(name: &str, kind: &str, values: &[&str]) -> RecordSet {
    let name = if name.is_empty() { DOMAIN.to_owned() } else { format!("{name}.{DOMAIN}") };
    RecordSet::new(name, kind, 5, values.iter().map(|value| (*value).to_owned()).collect())
}

fn mark(view: u64) -> RecordSet {
    Mark { cluster: "c0ffee".into(), branch: Some(7), moment: (0, view, 2) }.record(DOMAIN, 5)
}

fn wanted() -> Vec<RecordSet> {
    vec![
        set("", "A", &["192.0.2.1", "192.0.2.2"]),
        set("", "TXT", &["\"REPLICA 192.0.2.1:14000;REPLICA 192.0.2.2:14000\""]),
        set("_concoord._tcp", "SRV", &["0 100 14000 192-0-2-1.ipaddr.counterdomain.com."]),
        set("192-0-2-1.ipaddr", "A", &["192.0.2.1"]),
        mark(2),
    ]
}

fn steps(there: &[RecordSet]) -> Vec<String> {
    let changes = changes(DOMAIN, &wanted(), there).unwrap();
    let step = |change: &Change| {
        format!("{} {} {}", change.action(), change.set().name, change.set().kind)
    };
    changes.iter().map(step).collect()
}

#[test]
fn what_is_right_is_left_alone() {
    let mut there = wanted();
    assert_eq!(steps(&there), [""; 0]);
    // Neither the order of values nor records of others matter.
    there[0].values.reverse();
    there.push(set("www", "A", &["198.51.100.1"]));
    there.push(set("", "NS", &["ns-1.awsdns-1.com."]));
    assert_eq!(steps(&there), [""; 0]);
    there[0].ttl = Some(600);
    // By one who is refused if another leader has written since.
    let expected = [
        "DELETE _concoord.counterdomain.com TXT",
        "UPSERT counterdomain.com A",
        "CREATE _concoord.counterdomain.com TXT",
    ];
    assert_eq!(steps(&there), expected);
}

#[test]
fn what_is_stale_goes_in_the_same_batch() {
    let mut there = wanted();
    there.push(set("", "AAAA", &["2001:db8::1"]));
    there.push(set("192-0-2-9.ipaddr", "A", &["192.0.2.9"]));
    // No name below that one.
    there.push(set("xipaddr", "A", &["192.0.2.9"]));
    let expected = [
        "DELETE _concoord.counterdomain.com TXT",
        "DELETE counterdomain.com AAAA",
        "DELETE 192-0-2-9.ipaddr.counterdomain.com A",
        "CREATE _concoord.counterdomain.com TXT",
    ];
    assert_eq!(steps(&there), expected);
}

#[test]
fn a_mark_is_exchanged_for_the_next_only_if_it_is_still_there() {
    let mut there = wanted();
    *there.last_mut().unwrap() = mark(1);
    let changes = changes(DOMAIN, &wanted(), &there).unwrap();
    assert_eq!(changes, [Change::Delete(mark(1)), Change::Create(mark(2))]);
    assert_eq!(steps(&[]).last().unwrap(), "CREATE _concoord.counterdomain.com TXT");
}

#[test]
fn marks_are_read_as_they_are_written_and_later_ones_are_known() {
    let read = |view| Mark::among(&[mark(view)], DOMAIN).unwrap();
    assert_eq!(read(7).moment, (0, 7, 2));
    assert!(read(7).is_before(&read(8)) && !read(8).is_before(&read(8)));
    assert!(read(8).is_before(&Mark { moment: (1, 3, 2), ..read(8) }));
    assert!(read(8).is_before(&Mark { moment: (0, 8, 3), ..read(8) }));
    assert!(!read(7).is_before(&Mark { cluster: "other".into(), ..read(8) }));
    let twin = Mark { branch: Some(8), ..read(8) };
    assert!(read(7).is_twin_of(&twin) && !read(7).is_before(&twin) && !twin.is_before(&read(9)));
    assert!(read(7).is_before(&Mark { moment: (1, 1, 1), ..twin }), "a later lineage is one");
    let earlier = Mark { branch: None, ..read(8) };
    assert_eq!(Mark::among(&[earlier.record(DOMAIN, 5)], DOMAIN), Some(earlier.clone()));
    assert!(read(7).is_before(&earlier) && earlier.is_before(&read(9)), "it did not say which");
    for value in
        ["", "\"\"", "\"cluster=a lineage=0 view=x term=2\"", "\"cluster=a view=1 term=2\""]
    {
        assert_eq!(Mark::among(&[set("_concoord", "TXT", &[value])], DOMAIN), None, "{value}");
    }
}

#[test]
fn texts_of_others_stay() {
    let theirs = "\"v=spf1 -all\"";
    let there = [set("", "TXT", &[theirs, "\"REPLICA 192.0.2.9:14000\""])];
    let all = changes(DOMAIN, &wanted(), &there).unwrap();
    // Refused if somebody adds one meanwhile.
    assert_eq!(all[0], Change::Delete(there[0].clone()));
    let text = all.iter().find(|change| matches!(change, Change::Create(_))).unwrap();
    assert_eq!(text.set().values, [&wanted()[1].values[0], theirs]);
    // And are what remains in the end.
    let mut there = wanted();
    there[1].values.push(theirs.into());
    let all = changes(DOMAIN, &[], &there).unwrap();
    let deleted = |change: &Change| matches!(change, Change::Delete(_));
    assert_eq!(all.iter().filter(|change| deleted(change)).count(), 5);
    assert_eq!(all.last().unwrap(), &Change::Create(set("", "TXT", &[theirs])));
    assert!(changes(DOMAIN, &[], &wanted()).unwrap().iter().all(deleted));
}

#[test]
fn what_can_not_be_replaced_is_named() {
    let alias = RecordSet { plain: false, ttl: None, values: Vec::new(), ..set("", "A", &[]) };
    let error = changes(DOMAIN, &wanted(), &[alias]).unwrap_err();
    assert!(error.to_string().starts_with("counterdomain.com has a record of type A "), "{error}");
    let canonical = set("_concoord._tcp", "CNAME", &["elsewhere.example"]);
    let error = changes(DOMAIN, &wanted(), &[canonical]).unwrap_err();
    assert!(error.to_string().contains("type CNAME"), "{error}");
    // Those of others may be whatever they like.
    let other = RecordSet { plain: false, ..set("www", "A", &[]) };
    assert!(changes(DOMAIN, &wanted(), &[other]).is_ok());
}
