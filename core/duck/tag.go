//go:build !duckdb_arrow

package duck

// Rows of projects travel as Arrow, and the driver has that interface only
// under a build tag. Without it the build ends here, with a sentence.
var _ = build_Eider_with_the_tag_duckdb_arrow_as_the_README_says
