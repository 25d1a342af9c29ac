package tables

import "github.com/eiderdb/eider/core"

func (f *Tables) declareExport(*core.Registry) {}
