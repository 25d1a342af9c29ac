package gate

import "fmt"

// Fold returns the name by which two are equal that DuckDB takes for one. It folds
// the letters of ASCII alone: "Ä" and "ä" are two columns of a table.
func Fold(name string) string {
	for i := range len(name) {
		if isCapital(name[i]) {
			folded := []byte(name)
			for ; i < len(folded); i++ {
				if isCapital(folded[i]) {
					folded[i] += 'a' - 'A'
				}
			}
			return string(folded)
		}
	}
	return name
}

func isCapital(c byte) bool { return 'A' <= c && c <= 'Z' }

// Same reports whether DuckDB takes the two for one name.
func Same(a, b string) bool { return len(a) == len(b) && Fold(a) == Fold(b) }

// Folded is Fold of an expression of SQL: lower() folds the letters of every
// alphabet.
func Folded(expression string) string {
	return fmt.Sprintf(`translate(%s, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')`, expression)
}
