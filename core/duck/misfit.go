//go:build duckdb_arrow

package duck

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/bitutil"
	bindings "github.com/duckdb/duckdb-go-bindings"
	duckdb "github.com/duckdb/duckdb-go/v2"
)

// Some values have no like in Arrow, and DuckDB converts them to others without a
// word. They are looked for before it does, in columns of their types, wherever these
// stand in a column's.

// misfit looks through a vector of n values, and says of what kind the first is that
// Arrow cannot hold; it is empty if Arrow can hold them all.
type misfit func(vector bindings.Vector, n int) string

// misfitOf returns what looks through values of the type, nil where there is nothing
// to be found. DuckDB has flattened a chunk with all that is within it.
func misfitOf(t bindings.LogicalType) misfit {
	switch bindings.GetTypeId(t) {
	case bindings.TypeUHugeInt:
		return finds("a UHUGEINT of 2^127 or more", func(v [2]uint64) bool { return v[1] > math.MaxInt64 })
	case bindings.TypeInterval: // months and days, then microseconds, of which Arrow makes nanoseconds
		return finds("an INTERVAL of more than 292 years beside its months and days", func(v [2]int64) bool {
			return v[1] > math.MaxInt64/1000 || v[1] < math.MinInt64/1000
		})
	case bindings.TypeTimeTZ:
		return finds("a TIME WITH TIME ZONE with an offset", func(v uint64) bool { return v&offsetBits != noOffset })
	case bindings.TypeList:
		return inList(misfitWithin(t, bindings.ListTypeChildType))
	case bindings.TypeMap: // a list of pairs
		return inList(inStruct(misfitWithin(t, bindings.MapTypeKeyType), misfitWithin(t, bindings.MapTypeValueType)))
	case bindings.TypeArray:
		return inArray(misfitWithin(t, bindings.ArrayTypeChildType), int(bindings.ArrayTypeArraySize(t)))
	case bindings.TypeStruct:
		return inStruct(misfitsWithin(t, bindings.StructTypeChildCount(t), bindings.StructTypeChildType)...)
	case bindings.TypeUnion: // behind the tag
		return inStruct(append([]misfit{nil}, misfitsWithin(t, bindings.UnionTypeMemberCount(t), bindings.UnionTypeMemberType)...)...)
	}
	return nil
}

// Of a time with a zone, DuckDB has how much its offset is less than the greatest in
// the lowest bits.
const (
	offsetBits = 1<<24 - 1
	noOffset   = 16*60*60 - 1
)

// Misfits reports whether there are UHUGEINTs or TIMETZs in the columns that the rows
// of the statement would have: Arrow has no type for these.
func (s *Statement) Misfits() (bool, error) {
	_, prepared, err := below(s.conn.conn, s.stmt)
	if err != nil {
		return false, err
	}
	for i := range bindings.PreparedStatementColumnCount(prepared) {
		if within(prepared, bindings.PreparedStatementColumnLogicalType, i, isMisfit) {
			return true, nil
		}
	}
	return false, nil
}

func isMisfit(t bindings.LogicalType) bool {
	some := func(n bindings.IdxT, of func(bindings.LogicalType, bindings.IdxT) bindings.LogicalType) bool {
		for i := range n {
			if within(t, of, i, isMisfit) {
				return true
			}
		}
		return false
	}
	only := func(of func(bindings.LogicalType) bindings.LogicalType) bool {
		return some(1, func(t bindings.LogicalType, _ bindings.IdxT) bindings.LogicalType { return of(t) })
	}
	switch bindings.GetTypeId(t) {
	case bindings.TypeUHugeInt, bindings.TypeTimeTZ:
		return true
	case bindings.TypeList:
		return only(bindings.ListTypeChildType)
	case bindings.TypeArray:
		return only(bindings.ArrayTypeChildType)
	case bindings.TypeMap:
		return only(bindings.MapTypeKeyType) || only(bindings.MapTypeValueType)
	case bindings.TypeStruct:
		return some(bindings.StructTypeChildCount(t), bindings.StructTypeChildType)
	case bindings.TypeUnion:
		return some(bindings.UnionTypeMemberCount(t), bindings.UnionTypeMemberType)
	}
	return false
}

// within asks about a type that is a part of another.
func within[T any](t T, of func(T, bindings.IdxT) bindings.LogicalType, i bindings.IdxT, ask func(bindings.LogicalType) bool) bool {
	inner := of(t, i)
	defer bindings.DestroyLogicalType(&inner)
	return ask(inner)
}

func misfitWithin(t bindings.LogicalType, of func(bindings.LogicalType) bindings.LogicalType) misfit {
	inner := of(t)
	defer bindings.DestroyLogicalType(&inner)
	return misfitOf(inner)
}

func misfitsWithin(t bindings.LogicalType, n bindings.IdxT, of func(bindings.LogicalType, bindings.IdxT) bindings.LogicalType) (all []misfit) {
	for i := range n {
		all = append(all, misfitWithin(t, func(t bindings.LogicalType) bindings.LogicalType { return of(t, i) }))
	}
	return all
}

func finds[T any](what string, unfit func(T) bool) misfit {
	return func(vector bindings.Vector, n int) string {
		var mask []byte
		if bits := bindings.VectorGetValidity(vector); bits != nil {
			mask = unsafe.Slice((*byte)(bits), bitutil.BytesForBits(int64(n)))
		}
		for i, v := range unsafe.Slice((*T)(bindings.VectorGetData(vector)), n) {
			if unfit(v) && (mask == nil || bitutil.BitIsSet(mask, i)) {
				return what
			}
		}
		return ""
	}
}

func inList(find misfit) misfit {
	if find == nil {
		return nil
	}
	return func(vector bindings.Vector, _ int) string {
		return find(bindings.ListVectorGetChild(vector), int(bindings.ListVectorGetSize(vector)))
	}
}

func inArray(find misfit, size int) misfit {
	if find == nil {
		return nil
	}
	return func(vector bindings.Vector, n int) string { return find(bindings.ArrayVectorGetChild(vector), n*size) }
}

func inStruct(fields ...misfit) misfit {
	any := false
	for _, find := range fields {
		any = any || find != nil
	}
	if !any {
		return nil
	}
	return func(vector bindings.Vector, n int) string {
		for i, find := range fields {
			if find == nil {
				continue
			}
			if what := find(bindings.StructVectorGetChild(vector, bindings.IdxT(i)), n); what != "" {
				return what
			}
		}
		return ""
	}
}

// fits refuses a chunk with a value that would be told as another.
func (b *Batches) fits(chunk bindings.DataChunk) error {
	for i, find := range b.misfits {
		if find == nil {
			continue
		}
		if what := find(bindings.DataChunkGetVector(chunk, bindings.IdxT(i)), int(bindings.DataChunkGetSize(chunk))); what != "" {
			return &duckdb.Error{Type: duckdb.ErrorTypeConversion, Msg: fmt.Sprintf("Conversion Error: column %q has %s, which Arrow cannot hold: CAST it to VARCHAR", b.columns[i].Name, what)}
		}
	}
	return nil
}

// notInArrow refuses columns of which one has a type that Arrow lacks.
func (b *Batches) notInArrow(names []string, types []bindings.LogicalType, message string) error {
	for i := range types {
		_, data := bindings.NewArrowSchema(b.opts, types[i:i+1], names[i:i+1])
		bad := bindings.ErrorDataHasError(data)
		bindings.DestroyErrorData(&data)
		if bad {
			message = fmt.Sprintf("column %q has a type that Arrow lacks, such as VARIANT: CAST it to VARCHAR or JSON", names[i])
			break
		}
	}
	return &duckdb.Error{Type: duckdb.ErrorTypeNotImplemented, Msg: "Not implemented Error: " + message}
}
