//! Compares `docs/configuration.md` with the table of options; `UPDATE_EXPECT=1 cargo test -p
//! millstream-config --test reference` rewrites it.

#[test]
fn the_page_is_up_to_date() {
    expect_test::expect_file!["../../../docs/configuration.md"]
        .assert_eq(&millstream_config::render_reference());
}
