//! One fault, one rule: what the safe SDK lets a method do wrong.

use crate::assert_only;
use crate::ladder::{Fault, ladder};
use vq_plugin_api::conformance::{self, Severity};

macro_rules! one_fault_one_rule {
    ($($test:ident: $fault:ident => $severity:ident $rule:literal;)+) => { $(
        #[test]
        fn $test() {
            let report = conformance::check(ladder::<{ Fault::$fault as u8 }>());
            assert_only(&report, $rule, Severity::$severity);
        }
    )+ };
}

one_fault_one_rule! {
    missing_texts_are_noticed: NoTexts => Warning "descriptor";
    missing_help_is_noticed: NoHelp => Warning "schema";
    choices_outside_the_range_are_noticed: ChoicesOutOfRange => Error "schema";
    an_empty_grid_is_noticed: EmptyGrid => Error "grid-default";
    ignored_axes_are_noticed: IgnoresAxes => Error "grid-axes";
    a_forgotten_rate_is_noticed: RateForgotten => Warning "grid-rate";
    a_blunt_refusal_is_noticed: BluntAtBoundary => Error "config-boundaries";
    silent_clamping_is_noticed: ClampsSilently => Error "config-range";
    values_of_any_kind_are_noticed: AcceptsAnyKind => Error "config-kind";
    accepted_unknown_parameters_are_noticed: AcceptsUnknown => Error "config-unknown";
    a_leak_is_noticed: Leaks => Error "leak";
    refused_dimensions_are_noticed: RefusesOddDimensions => Error "round-trip";
    growing_codes_are_noticed: GrowsItsCodes => Error "code-bytes";
    unwritten_rows_are_noticed: LeavesLastRow => Error "fully-written";
    an_unwritten_code_byte_is_noticed: LeavesCodeByte => Error "fully-written";
    an_unwritten_code_of_a_large_call_is_noticed:
        LeavesCodesOfLargeCalls => Error "fully-written";
    an_unwritten_row_of_a_large_call_is_noticed: LeavesRowsOfLargeCalls => Error "fully-written";
    an_unwritten_estimate_is_noticed: LeavesEstimate => Error "fully-written";
    an_unwritten_estimate_of_a_large_call_is_noticed:
        LeavesEstimatesOfLargeCalls => Error "fully-written";
    an_unwritten_bound_is_noticed: LeavesBound => Error "fully-written";
    an_unwritten_bound_of_a_large_call_is_noticed:
        LeavesBoundsOfLargeCalls => Error "fully-written";
    nan_output_is_noticed: NanOutput => Error "finite-output";
    codes_that_change_between_calls_are_noticed: NewCodesEachCall => Error "determinism";
    rows_that_change_between_calls_are_noticed: NewRowsEachCall => Error "determinism";
    randomness_beside_the_seed_is_noticed: IgnoresSeed => Error "determinism";
    dependence_on_threads_is_noticed: DependsOnThreads => Error "determinism";
    an_untrue_ratio_is_noticed: LiesAboutRatio => Error "ratio";
    an_untrue_model_size_is_noticed: LiesAboutModel => Warning "model-bytes";
    batch_dependent_codes_are_noticed: DependsOnBatch => Error "batch-independence";
    codes_that_depend_on_the_order_are_noticed: DependsOnOrder => Error "batch-independence";
    codes_that_differ_in_large_calls_are_noticed: DependsOnLargeCalls => Error "batch-independence";
    rows_that_differ_in_large_calls_are_noticed: DecodesLargeCallsOtherwise => Error "batch-independence";
    estimates_that_differ_in_large_calls_are_noticed:
        ScoresLargeCallsOtherwise => Error "batch-independence";
    batch_dependent_rows_are_noticed: DecodesByBatch => Error "batch-independence";
    batch_dependent_estimates_are_noticed: ScoresByBatch => Error "batch-independence";
    one_bit_changed_by_load_is_noticed: LoadsWrongly => Error "save-load";
    nan_estimates_are_noticed: ScoresNan => Error "scorer";
    negative_bounds_are_noticed: NegativeBounds => Error "scorer";
    infinite_bounds_are_noticed: InfiniteBounds => Error "scorer";
    constant_estimates_are_noticed: ScoresConstantly => Warning "scorer-agreement";
    unrelated_estimates_are_noticed: ScoresUnrelated => Warning "scorer-agreement";
    decreasing_progress_is_noticed: ProgressDecreases => Error "progress";
    an_ignored_cancel_is_noticed: IgnoresCancel => Error "cancel";
    state_shared_by_instances_is_noticed: SharesState => Error "isolation";
    scratch_shared_by_threads_is_noticed: SharesScratch => Error "concurrency";
    nan_from_one_row_is_noticed: NanFromOneRow => Error "small-training";
    a_panic_on_one_row_is_noticed: PanicsOnOneRow => Error "no-panic";
    nan_from_a_constant_dimension_is_noticed: NanFromConstant => Error "degenerate-data";
    nan_from_huge_values_is_noticed: NanFromHuge => Warning "huge-values";
    a_panic_on_nan_is_noticed: PanicsOnNan => Error "no-panic";
    an_accepted_truncated_model_is_noticed: LoadsTruncated => Warning "damaged-model";
    a_panic_on_strange_codes_is_noticed: PanicsOnStrangeCodes => Error "no-panic";
    a_row_beyond_the_block_is_noticed: FindsRowsBeyondTheBlock => Error "search";
    a_row_found_twice_is_noticed: FindsTwice => Error "search";
    an_unsorted_answer_is_noticed: FindsUnsorted => Error "search";
    an_answer_of_too_few_is_noticed: FindsTooFew => Error "search";
    the_later_of_equal_estimates_is_noticed: FindsTheLaterOfEquals => Error "search";
    another_estimate_than_the_scorers_is_noticed: FindsAnotherEstimate => Error "search-ranking";
    a_missed_code_is_noticed: MissesTheSecond => Error "search-ranking";
    a_missed_code_of_a_large_call_is_noticed:
        MissesTheLastOfLargeCalls => Error "search-ranking";
    nan_from_a_search_is_noticed: FindsNan => Error "search";
    a_lower_row_that_loses_a_tie_is_noticed: MissesTheFirstOfEquals => Error "search-ties";
    a_search_for_the_farthest_is_noticed: FindsTheFarthest => Warning "search-agreement";
}
