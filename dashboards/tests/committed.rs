//! The committed boards are what the builders write. `UPDATE_EXPECT=1 cargo test -p davy-dashboards` writes them.

use std::path::Path;

#[test]
fn committed_boards_are_what_the_builders_write() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("Davy");
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut named = Vec::new();
    for (name, board) in davy_dashboards::boards::all() {
        let path = folder.join(name);
        if update {
            std::fs::write(&path, board.to_json()).expect("the board can be written");
        }
        let committed = std::fs::read_to_string(&path).expect("every board is committed");
        assert!(
            committed == board.to_json(),
            "{name} is not what the builders write: run with UPDATE_EXPECT=1"
        );
        named.push(name.to_owned());
    }
    let mut there: Vec<String> = std::fs::read_dir(&folder)
        .expect("the folder can be read")
        .map(|e| e.expect("entries can be read").file_name().into_string().expect("names are UTF-8"))
        .collect();
    there.sort();
    assert_eq!(there, named, "no board is left over, and boards are in order");
    let embedded =
        davy_dashboards::FILES.iter().filter_map(|(path, _)| path.strip_prefix("dashboards/Davy/"));
    assert_eq!(embedded.collect::<Vec<_>>(), named, "every board is embedded");
}
