package gate

import "strings"

// merge reads what follows MERGE INTO:
//
//	name [[AS] alias] USING source ON .. | USING (columns)
//	WHEN [NOT] MATCHED [BY SOURCE | BY TARGET] [AND ..] THEN action, several times
//	[RETURNING ..]
func (s *statement) merge() error {
	t := s.text
	s.put("MERGE INTO ")
	if err := s.aim("merge"); err != nil {
		return err
	}
	if err := s.alias("using"); err != nil {
		return err
	}
	if !t.peek().is("using") {
		return failed(t.offset(), "USING is expected here")
	}
	if err := s.tables("USING", "on", "using", "when"); err != nil {
		return err
	}
	if err := s.match(); err != nil {
		return err
	}
	for t.eat("when") {
		if err := s.when(); err != nil {
			return err
		}
	}
	return s.finish()
}

// match reads how rows of the source find theirs.
func (s *statement) match() error {
	if !s.text.eat("using") {
		return s.condition("ON", "when")
	}
	columns, err := s.text.columns()
	s.put(" USING ", columns)
	return err
}

func (s *statement) when() error {
	t := s.text
	s.put(" WHEN ")
	if t.eat("not") {
		s.put("NOT ")
	}
	if !t.eat("matched") {
		return failed(t.offset(), "MATCHED is expected here")
	}
	s.put("MATCHED")
	switch {
	case t.eat("by", "source"):
		s.put(" BY SOURCE")
	case t.eat("by", "target"):
		s.put(" BY TARGET")
	}
	if err := s.condition("AND", "then"); err != nil {
		return err
	}
	if !t.eat("then") {
		return failed(t.offset(), "THEN is expected here")
	}
	s.put(" THEN ")
	return s.action()
}

func (s *statement) action() error {
	t := s.text
	switch {
	case t.eat("delete"):
		s.put("DELETE")
		return nil
	case t.eat("do", "nothing"):
		s.put("DO NOTHING")
		return nil
	case t.eat("update"):
		return s.mergeUpdate()
	case t.eat("insert"):
		return s.mergeInsert()
	}
	return failed(t.offset(), "UPDATE, INSERT, DELETE or DO NOTHING is expected here")
}

func (s *statement) mergeUpdate() error {
	t := s.text
	s.put("UPDATE")
	switch {
	case t.eat("by", "name"):
		s.put(" BY NAME")
	case t.eat("by", "position"):
		s.put(" BY POSITION")
	case t.eat("set"):
		if t.eatPunct("*") {
			s.put(" SET *")
			return nil
		}
		return s.assignments("when", "returning")
	}
	return nil
}

func (s *statement) mergeInsert() error {
	t := s.text
	s.put("INSERT")
	switch {
	case t.eat("by", "name"):
		s.put(" BY NAME")
		return nil
	case t.eatPunct("*"):
		s.put(" *")
		return nil
	case t.eat("default", "values"):
		s.put(" DEFAULT VALUES")
		return nil
	}
	if t.peek().text == "(" {
		columns, err := t.columns()
		if err != nil {
			return err
		}
		s.put(" ", columns)
	}
	if !t.eat("values") {
		return nil
	}
	return s.mergeValues()
}

// mergeValues reads one row in brackets.
func (s *statement) mergeValues() error {
	t := s.text
	if !t.eatPunct("(") {
		return failed(t.offset(), "values in brackets are expected here")
	}
	var values []string
	for _, p := range t.list() {
		value := "DEFAULT"
		if !Same(p.text, "default") {
			var err error
			if value, err = s.expression(p, limits{}); err != nil {
				return err
			}
		}
		values = append(values, value)
	}
	if !t.eatPunct(")") {
		return failed(t.offset(), "a closing bracket is expected here")
	}
	s.put(" VALUES (", strings.Join(values, ", "), ")")
	return nil
}
