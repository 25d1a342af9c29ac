package tables

import "github.com/eiderdb/eider/core"

func (f *Tables) declareImport(*core.Registry) {}
