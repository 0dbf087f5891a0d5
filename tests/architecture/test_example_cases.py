"""The example cases of the control plane's pages are tests: which case is proven where.

The pages number their cases; a table here says for each which test proves it, and the tests here
say that no number is left out and that every test named exists. What a case shows of a release
that Keydeck does not follow has `-` and why.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

AUTH = """
1           auth/test_auth_cases.py::test_case_1_enabling
2 3         auth/test_auth_cases.py::test_case_2_and_3_logging_in
4           auth/test_auth_cases.py::test_case_4_the_form_of_a_token
5           auth/test_auth_cases.py::test_case_5_keys
6 7         auth/test_auth_cases.py::test_case_6_and_7_ranges_and_writes
8 9         auth/test_auth_cases.py::test_case_8_and_9_transactions
9           auth/test_checker.py::test_case_9_nested_transactions
10 11       auth/test_auth_cases.py::test_case_10_and_11_leases
12          auth/test_auth_cases.py::test_case_12_watches
13          auth/test_auth_cases.py::test_case_13_what_a_user_may_ask
14          auth/test_auth_cases.py::test_case_14_root_stays
15          auth/test_auth_cases.py::test_case_15_a_new_password
16 17       auth/test_auth_cases.py::test_case_16_and_17_taking_away
18          auth/test_auth_cases.py::test_case_18_users_without_a_password
19          auth/test_auth_cases.py::test_case_19_tokens_end_with_auth
20          auth/test_auth_cases.py::test_case_20_the_revision_as_told
21          auth/test_auth_servers.py::test_case_21_json_web_tokens
21          auth/test_jwt_tokens.py::test_only_the_configured_algorithm_counts
22          auth/test_auth_servers.py::test_case_22_certificates
22          services/test_gateway_door.py::test_a_certificate_that_would_be_ignored_is_refused
23 24       auth/test_auth_cases.py::test_case_23_and_24_permissions_that_cannot_be
25          auth/test_simple_tokens.py::test_case_25_idle_tokens_die_used_ones_live
26          e2e/test_cluster.py::test_a_token_counts_on_every_member_at_once
27          auth/test_auth_servers.py::test_everything_but_tokens_survives_a_restart
27          auth/test_auth_servers.py::test_our_client_logs_in_again_by_itself
28          auth/test_auth_cases.py::test_case_28_bearer
29          auth/test_permission_table.py::test_who_may_call
30          auth/test_auth_cases.py::test_case_30_locks
31          auth/test_canary.py::test_no_place_holds_a_password_a_token_or_a_key
"""

CONCURRENCY = """
1           services/test_lock.py::test_without_a_lease_one_of_60_seconds_is_granted
2           services/test_lock.py::test_a_waiter_whose_deadline_passes_leaves_the_queue
3           services/test_lock.py::test_unlocking_twice
4 5         services/test_lock.py::test_refusals_are_unknown_with_the_text_of_the_inner_call
6           services/test_lock.py::test_locking_again_with_the_same_lease
7           services/test_lock.py::test_the_lock_goes_to_the_first_in_line
8           services/test_lock.py::test_a_waiter_whose_lease_ended_has_no_lock
9           services/test_lock.py::test_names
10 11 12 13 14 15 16 17 18 19 21   services/test_election.py::test_the_story_of_an_election
20          services/test_election.py::test_a_campaign_that_is_cancelled_leaves_the_queue
22          compat/test_etcdctl.py::test_locks
23          compat/test_etcdctl.py::test_an_election_that_somebody_listens_to
24          services/test_lock.py::test_the_end_of_the_holders_lease_passes_the_lock_on
25          services/test_lock.py::test_a_waiter_in_the_middle_that_vanishes
"""

MAINTENANCE = """
1 10 12 16 18 24 25   server/test_maintenance_cases.py::test_an_empty_member_alone
2           apply/test_alarms.py::test_activate_twice_answers_alike
2           server/test_member.py::test_quota_alarm_and_recovery
3 4         apply/test_alarms.py::test_deactivate_matches_the_exact_pair_only
5           apply/test_alarms.py::test_an_effect_lasts_while_any_member_has_the_alarm
6           e2e/test_crashes.py::test_leases_and_alarms_survive
7           server/test_member.py::test_a_corrupt_cluster_takes_no_writes
8           apply/test_alarms.py::test_none_is_ignored
9           compat/test_etcdctl_formats.py::test_alarms_are_disarmed_in_every_format
11 27 28    e2e/test_cluster.py::test_without_a_quorum_only_local_reads_are_answered
13          e2e/test_cluster.py::test_a_learner_joins_is_promoted_and_removed
14 15       server/test_http.py::test_metrics_tell_how_much_is_stored
15 23 25 26 e2e/test_cluster.py::test_leadership_is_moved
17          e2e/test_cluster.py::test_every_member_takes_writes_and_reads_what_others_wrote
18 20       mvcc/test_hash.py::test_revisions_that_cannot_be_hashed
19          mvcc/test_hash.py::test_the_compact_revision_itself_after_a_restart
21          interchange/test_snapshot_service.py::test_the_messages_of_a_known_size
22          compat/test_etcdctl.py::test_snapshot_moves_to_a_real_etcd
29          auth/test_permission_table.py::test_who_may_call
30          - 3.4 has no Downgrade; ours has
31          services/test_downgrade.py::test_only_one_minor_version_down_is_valid
32          interchange/test_snapshot_service.py::test_a_learner_serves_it
33          e2e/test_corruption.py::test_the_leader_compares_current_data
34          e2e/test_corruption.py::test_the_leader_compares_the_hashes_of_compactions
34          member/test_corruption.py::test_a_compaction_hash_is_judged_by_the_majority
"""

CONFIG = """
1           config/test_config_sources.py::test_a_variable_beside_its_flag_is_fatal
2           config/test_config_sources.py::test_an_unknown_flag_shows_usage
3           config/test_config_sources.py::test_a_positional_argument_is_refused
4           config/test_config_sources.py::test_version_and_help
5           config/test_config_sources.py::test_foreign_variables_only_warn
5           e2e/test_process.py::test_unknown_etcd_variables_are_not_fatal
6 7 9 11 12 26 27   config/test_config_validate.py::test_what_is_refused_and_in_which_words
8 10 20     config/test_config_sources.py::test_what_cannot_be_read_exits_with_two
13          config/test_config_sources.py::test_the_file_alone_decides
14          config/test_config_sources.py::test_values_in_the_file
15          e2e/test_process.py::test_sigterm_ends_an_idle_member
16          e2e/test_tls.py::test_unix_sockets_plain_and_secured
17          e2e/test_tls.py::test_every_listener_demands_a_certificate
18          tls/test_self_signed.py::test_what_is_made
18          e2e/test_tls.py::test_auto_tls
19          config/test_config_sources.py::test_what_kubeadm_passes_is_accepted
21          e2e/test_tls.py::test_a_renewed_certificate_is_shown_without_a_restart
22          e2e/test_tls.py::test_a_revoked_certificate_is_refused_everywhere_and_others_go_on
23          transport/test_abuse.py::test_too_many_pings_without_a_stream
24          services/test_gateway_door.py::test_host_names
24          services/test_gateway_served.py::test_the_flags_reach_the_door
25          compat/test_gateway.py::test_cross_origin_headers
28          server/test_start.py::test_systemd_is_told_once_when_clients_are_served
29          tls/test_suites_and_versions.py::test_versions
30          config/test_config_sources.py::test_a_variable_that_does_not_parse_is_fatal
31          config/test_config_sources.py::test_defaults_make_one_member_named_default
"""

OBSERVABILITY = """
1 2         server/test_http.py::test_health_and_its_alarms
3 8 21      e2e/test_cluster.py::test_without_a_quorum_only_local_reads_are_answered
4           server/test_http.py::test_livez_and_readyz
5           e2e/test_cluster.py::test_a_learner_joins_is_promoted_and_removed
6           server/test_http.py::test_version_and_unknown_paths
7 9 10 12 25   server/test_http.py::test_metrics_count_what_happens
11          server/test_http.py::test_metrics_count_open_watches
12          metrics/test_registry.py::test_fsync_bounds_are_etcds
13          server/test_http.py::test_extensive_metrics_time_every_call
14 15       server/test_http.py::test_metrics_tell_how_much_is_stored
16          metrics/test_registry.py::test_the_page_parses_and_types_stay
16          compat/test_metrics.py::test_every_family_of_etcd_is_here
7 17        e2e/test_alert_rules.py::test_who_is_alerted
18          e2e/test_cluster.py::test_links_are_measured
19          server/test_http.py::test_a_slow_apply_is_told_without_the_value
20          services/test_request_stats.py::test_a_put_that_waits_for_the_disk_is_told
22          transport/test_health_and_reflection.py::test_check
23          server/test_http.py::test_metrics_listeners_serve_nothing_else
24          auth/test_auth_cases.py::test_health_and_metrics_ask_for_nobody
"""

BBOLT = """
1 interchange/test_image_vectors.py::test_the_writer_gives_the_vector_and_the_reader_takes_it_back
1           interchange/test_image_vectors.py::test_an_empty_store
1           interchange/test_image_vectors.py::test_what_real_bbolt_leaves_behind_is_stepped_over
2           interchange/test_image_writer.py::test_what_goes_in_comes_back_and_etcd_may_change_it
3 6         compat/test_snapshot_interchange.py::test_a_backup_of_a_real_etcd_becomes_keydeck
4 5         compat/test_snapshot_interchange.py::test_a_backup_of_keydeck_becomes_a_real_etcd
5           compat/test_snapshot_interchange.py::test_three_members_from_one_file_agree
7           compat/test_snapshot_interchange.py::test_a_bumped_restore_goes_on_alike
8           compat/test_snapshot_interchange.py::test_passwords_and_rights_move_too
9           interchange/test_image_damage.py::test_each_lie_is_told_with_its_page
9           interchange/test_image_damage.py::test_one_damaged_meta_is_no_loss
9           compat/test_snapshot_interchange.py::test_one_changed_byte_is_refused_alike
10          interchange/test_kvutl.py::test_a_missing_bucket_is_an_empty_one
10          interchange/test_kvutl.py::test_odd_contents_are_taken_in_stride
11          interchange/test_image_writer.py::test_four_levels_in_little_memory
11          interchange/test_views.py::test_building_goes_in_small_steps_and_holds_little
"""

PAGES: dict[str, tuple[int, str]] = {
    "spec/auth.md §10": (31, AUTH),
    "spec/concurrency.md §5": (25, CONCURRENCY),
    "spec/maintenance.md §11": (34, MAINTENANCE),
    "spec/config.md §9": (31, CONFIG),
    "spec/observability.md §9": (25, OBSERVABILITY),
    "spec/bbolt.md §6": (11, BBOLT),
}
"""How many cases a page has, and their tests."""


def rows(table: str) -> list[tuple[list[int], str]]:
    """(numbers, the test or why there is none)."""
    found = []
    for line in table.strip().splitlines():
        words = line.split()
        numbers = [int(word) for word in words if word.isdigit()]
        found.append((numbers, " ".join(words[len(numbers) :])))
    return found


@cache
def functions(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_case_has_its_test(page: str) -> None:
    count, table = PAGES[page]
    numbered = [number for numbers, _ in rows(table) for number in numbers]
    assert set(numbered) == set(range(1, count + 1))


@pytest.mark.parametrize("page", PAGES)
def test_every_test_named_exists(page: str) -> None:
    for _, place in rows(PAGES[page][1]):
        if place.startswith("- "):
            continue
        file, _, name = place.partition("::")
        assert name in functions(TESTS / file), place
