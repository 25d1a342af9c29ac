package wasm

import (
	"reflect"

	"github.com/tetratelabs/wazero/api"
)

// What a guest's calls keep lies on a stack that is not in its memory, and that the
// runtime doubles until it has more than 50 MB. How large it is the runtime tells nobody,
// so it is read from where it lies (docs/decisions/0063): where it cannot be found there,
// the runtime's own bound is all there is.

// stacks is where functions of one kind have their stack.
type stacks struct {
	of    reflect.Type
	field int // below zero: it is not known
}

// size returns how many bytes the function's stack has, 0 where that is not known.
func (s *stacks) size(f api.Function) int {
	if f == nil {
		return 0
	}
	if t := reflect.TypeOf(f); t != s.of {
		s.of, s.field = t, stackIn(t)
	}
	if s.field < 0 {
		return 0
	}
	return reflect.ValueOf(f).Elem().Field(s.field).Len()
}

// stackIn looks where the functions of a type have their stack.
func stackIn(t reflect.Type) int {
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return -1
	}
	field, ok := t.Elem().FieldByName("stack")
	if !ok || len(field.Index) != 1 || field.Type != reflect.TypeFor[[]byte]() {
		return -1
	}
	return field.Index[0]
}

// leastStack is what each guest may have, however little memory it has.
const leastStack = 1 << 20

// maxStack is how large a guest's stack may be when it comes for its next portion of fuel,
// between two of which it at most doubles. While it is copied it is there twice: in all no
// more than the guest's memory.
func (v *version) maxStack() int {
	return max(leastStack, int(v.manifest.Limits.Memory)/4)
}
