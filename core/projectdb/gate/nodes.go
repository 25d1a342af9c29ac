package gate

import "strings"

// keys are the parts that an object of the tree may have. Those that are missing
// on purpose: at_clause (AT (VERSION ..) reads other catalogs' pasts).
var keys = set(`
	node named_param_map
	type class alias query_location modifiers cte_map map key value aliases query materialized key_targets
	select_list from_table where_clause group_expressions group_sets aggregate_handling having qualify sample
	setop_type left right setop_all children cte_name child union_all
	is_null id type_info width scale child_type child_types first second size name catalog schema user_type_modifiers
	collation values enum_type values_count dict_type internal_type
	function_name order_bys orders null_order expression distinct is_operator export_state filter
	column_names relation_name exclude_list replace_list columns qualified_exclude_list rename_list table column expr unpacked
	schema_name table_name column_name_alias catalog_name
	function with_ordinality
	join_type ref_type condition using_columns delim_flipped duplicate_eliminated_columns
	subquery subquery_type comparison_type
	case_checks when_expr then_expr else_expr
	input lower upper
	partitions start end start_expr end_expr offset_expr default_expr ignore_nulls filter_expr exclude_clause arg_orders
	lhs cast_type try_cast identifier index
	limit offset distinct_on_targets
	sample_size is_percentage method seed repeatable
	expected_names expected_types
	source aggregates unpivot_names pivots pivot_expressions entries star_expr pivot_enum groups include_nulls
	show_type
`)

// types are those of objects that are no expressions, besides those that walk
// looks at one by one.
var types = set(`
	SELECT_NODE SET_OPERATION_NODE RECURSIVE_CTE_NODE CTE_NODE
	EMPTY SUBQUERY JOIN EXPRESSION_LIST PIVOT
	LIMIT_MODIFIER LIMIT_PERCENT_MODIFIER ORDER_MODIFIER DISTINCT_MODIFIER
	ORDER_DEFAULT ASCENDING DESCENDING
	GENERIC_TYPE_INFO DECIMAL_TYPE_INFO LIST_TYPE_INFO STRUCT_TYPE_INFO ARRAY_TYPE_INFO ENUM_TYPE_INFO UNBOUND_TYPE_INFO
	STRING_TYPE_INFO
`)

// constants are the words that SQL writes without brackets and that the parser
// takes for columns.
var constants = set(`
	current_date current_time current_timestamp localtime localtimestamp current_catalog current_schema current_role
	current_user session_user user
`)

// defaults are the functions that a column's default may call.
var defaults = set(`
	now get_current_timestamp transaction_timestamp today current_date current_localtimestamp current_localtime
	get_current_time uuid gen_random_uuid uuidv4 uuidv7 random nullif coalesce
	list_value array_value struct_pack row map to_json json_object json_array
	lower upper concat strftime epoch_ms epoch_us epoch date_trunc date_part timezone make_date make_timestamp
	to_years to_months to_days to_hours to_minutes to_seconds to_milliseconds to_microseconds to_weeks trunc
	+ - * / % // || &
`)

func set(names string) map[string]bool {
	all := map[string]bool{}
	for _, name := range strings.Fields(names) {
		all[name] = true
	}
	return all
}
