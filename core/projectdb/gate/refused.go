package gate

// refusedScalars are known and not allowed; the reason goes to the caller.
var refusedScalars = []group{
	{"it shows or uses what belongs to the server or to the connection", `
		current_connection_id current_query current_query_id current_setting current_transaction_id get_block_size
		getvariable in_search_path inet_client_addr inet_client_port inet_server_addr inet_server_port txid_current`},
	{"it waits, and does nothing else", `
		pg_sleep sleep_ms`},
	{"it writes to or reads the log of the engine", `
		parse_duckdb_log_message write_log`},
	{"projects have no sequences", `
		currval nextval`},
	{"it parses or plans other statements", `
		json_deserialize_sql json_serialize_plan json_serialize_sql`},
	{"it imitates PostgreSQL's catalog; information_schema has what is needed", `
		col_description format_pg_type format_type has_any_column_privilege has_column_privilege has_database_privilege
		has_foreign_data_wrapper_privilege has_function_privilege has_language_privilege has_schema_privilege
		has_sequence_privilege has_server_privilege has_table_privilege has_tablespace_privilege map_to_pg_oid
		obj_description pg_collation_is_visible pg_conf_load_time pg_conversion_is_visible pg_function_is_visible
		pg_get_constraintdef pg_get_expr pg_get_viewdef pg_has_role pg_is_other_temp_schema pg_my_temp_schema
		pg_opclass_is_visible pg_operator_is_visible pg_opfamily_is_visible pg_postmaster_start_time pg_table_is_visible
		pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible
		pg_type_is_visible shobj_description`},
	{"it is meant for the engine itself", `
		__internal_compress_integral_ubigint __internal_compress_integral_uinteger
		__internal_compress_integral_usmallint __internal_compress_integral_utinyint __internal_compress_string_hugeint
		__internal_compress_string_ubigint __internal_compress_string_uhugeint __internal_compress_string_uinteger
		__internal_compress_string_usmallint __internal_compress_string_utinyint __internal_decompress_integral_bigint
		__internal_decompress_integral_hugeint __internal_decompress_integral_integer
		__internal_decompress_integral_smallint __internal_decompress_integral_ubigint
		__internal_decompress_integral_uhugeint __internal_decompress_integral_uinteger
		__internal_decompress_integral_usmallint __internal_decompress_string combine constant_or_null create_sort_key
		finalize icu_collate_af icu_collate_am icu_collate_ar icu_collate_ar_sa icu_collate_as icu_collate_az
		icu_collate_be icu_collate_bg icu_collate_bn icu_collate_bo icu_collate_br icu_collate_bs icu_collate_ca
		icu_collate_ceb icu_collate_chr icu_collate_cs icu_collate_cy icu_collate_da icu_collate_de icu_collate_de_at
		icu_collate_dsb icu_collate_dz icu_collate_ee icu_collate_el icu_collate_en icu_collate_en_us icu_collate_eo
		icu_collate_es icu_collate_et icu_collate_fa icu_collate_fa_af icu_collate_ff icu_collate_fi icu_collate_fil
		icu_collate_fo icu_collate_fr icu_collate_fr_ca icu_collate_ga icu_collate_gl icu_collate_gu icu_collate_ha
		icu_collate_haw icu_collate_he icu_collate_he_il icu_collate_hi icu_collate_hr icu_collate_hsb icu_collate_hu
		icu_collate_hy icu_collate_id icu_collate_id_id icu_collate_ig icu_collate_is icu_collate_it icu_collate_ja
		icu_collate_ka icu_collate_kk icu_collate_kl icu_collate_km icu_collate_kn icu_collate_ko icu_collate_kok
		icu_collate_ku icu_collate_ky icu_collate_lb icu_collate_lkt icu_collate_ln icu_collate_lo icu_collate_lt
		icu_collate_lv icu_collate_mk icu_collate_ml icu_collate_mn icu_collate_mr icu_collate_ms icu_collate_mt
		icu_collate_my icu_collate_nb icu_collate_nb_no icu_collate_ne icu_collate_nl icu_collate_nn
		icu_collate_noaccent icu_collate_om icu_collate_or icu_collate_pa icu_collate_pa_in icu_collate_pl
		icu_collate_ps icu_collate_pt icu_collate_ro icu_collate_ru icu_collate_sa icu_collate_se icu_collate_si
		icu_collate_sk icu_collate_sl icu_collate_smn icu_collate_sq icu_collate_sr icu_collate_sr_ba icu_collate_sr_me
		icu_collate_sr_rs icu_collate_sv icu_collate_sw icu_collate_ta icu_collate_te icu_collate_th icu_collate_tk
		icu_collate_to icu_collate_tr icu_collate_ug icu_collate_uk icu_collate_ur icu_collate_uz icu_collate_vi
		icu_collate_wae icu_collate_wo icu_collate_xh icu_collate_yi icu_collate_yo icu_collate_yue icu_collate_yue_cn
		icu_collate_zh icu_collate_zh_cn icu_collate_zh_hk icu_collate_zh_mo icu_collate_zh_sg icu_collate_zh_tw
		icu_collate_zu icu_sort_key is_histogram_other_bin normalized_interval remap_struct stats switch
		timetz_byte_comparable unpivot_list variant_bytes_to_variant variant_normalize variant_to_parquet_variant
		vector_type`},
	{"it takes types as values, which a query does not need", `
		can_cast_implicitly cast_to_type get_type make_type replace_type`},
	{"it reads the environment of the server", `
		getenv`},
}

// refusedTableFunctions are known and not allowed.
var refusedTableFunctions = []group{
	{"it reads files", `
		arrow_scan arrow_scan_dumb glob parquet_bloom_probe parquet_file_metadata parquet_full_metadata
		parquet_kv_metadata parquet_metadata parquet_scan parquet_schema read_blob read_csv read_csv_auto read_duckdb
		read_json read_json_auto read_json_objects read_json_objects_auto read_ndjson read_ndjson_auto
		read_ndjson_objects read_parquet read_text sniff_csv`},
	{"it runs a statement, or reads a table, that is given as a text", `
		histogram histogram_values json_execute_serialized_sql query query_table`},
	{"it changes the engine", `
		check_peg_parser checkpoint disable_logging disable_peg_parser disable_profiling enable_logging
		enable_peg_parser enable_profiling force_checkpoint truncate_duckdb_logs`},
	{"it shows the catalog and the settings of the server; information_schema has what is needed", `
		duckdb_approx_database_count duckdb_columns duckdb_connection_count duckdb_constraints duckdb_coordinate_systems
		duckdb_databases duckdb_dependencies duckdb_extensions duckdb_external_file_cache duckdb_functions
		duckdb_indexes duckdb_keywords duckdb_log_contexts duckdb_logs duckdb_logs_parsed duckdb_memory
		duckdb_optimizers duckdb_prepared_statements duckdb_profiling_settings duckdb_schemas duckdb_secret_types
		duckdb_secrets duckdb_sequences duckdb_settings duckdb_table_sample duckdb_tables duckdb_temporary_files
		duckdb_types duckdb_variables duckdb_views pragma_collations pragma_database_size pragma_metadata_info
		pragma_platform pragma_show pragma_storage_info pragma_table_info pragma_user_agent pragma_version which_secret`},
	{"it is meant for the engine itself", `
		seq_scan sql_auto_complete summary test_vector_types`},
}
