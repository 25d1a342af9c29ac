package gate

// insert reads what follows INSERT:
//
//	[OR REPLACE | OR IGNORE] INTO name [AS alias] [BY NAME | BY POSITION] [(columns)]
//	query | VALUES .. | DEFAULT VALUES
//	[ON CONFLICT ..] [RETURNING ..]
func (s *statement) insert() error {
	t := s.text
	s.put("INSERT ")
	switch {
	case t.eat("or", "replace"):
		s.put("OR REPLACE ")
	case t.eat("or", "ignore"):
		s.put("OR IGNORE ")
	}
	if !t.eat("into") {
		return failed(t.offset(), "INTO is expected here")
	}
	s.put("INTO ")
	if err := s.aim("insert"); err != nil {
		return err
	}
	if t.peek().is("as") {
		if err := s.alias(); err != nil {
			return err
		}
	}
	if err := s.incoming(); err != nil {
		return err
	}
	if t.eat("on", "conflict") {
		if err := s.conflict(); err != nil {
			return err
		}
	}
	return s.finish()
}

// incoming reads the columns and the rows of an INSERT.
func (s *statement) incoming() error {
	t := s.text
	switch {
	case t.eat("by", "name"):
		s.put(" BY NAME")
	case t.eat("by", "position"):
		s.put(" BY POSITION")
	}
	if t.peek().text == "(" && !beginsQuery(t.ahead(1)) {
		columns, err := t.columns()
		if err != nil {
			return err
		}
		s.put(" ", columns)
	}
	if t.eat("default", "values") {
		s.put(" DEFAULT VALUES")
		return nil
	}
	rows, err := s.rows(t.upTo(func(i int) bool {
		return t.tokens[i].is("returning") || t.tokens[i].text == ";" ||
			t.tokens[i].is("on") && i+1 < len(t.tokens) && t.tokens[i+1].is("conflict")
	}))
	s.put(" ", rows)
	return err
}

func beginsQuery(t token) bool {
	return t.is("select") || t.is("with") || t.is("from") || t.is("values") || t.is("table") || t.text == "("
}

// conflict reads what follows ON CONFLICT:
//
//	[(columns)] DO NOTHING | DO UPDATE SET .. [WHERE ..]
func (s *statement) conflict() error {
	t := s.text
	s.put(" ON CONFLICT")
	if t.peek().text == "(" {
		columns, err := t.columns()
		if err != nil {
			return err
		}
		s.put(" ", columns)
	}
	switch {
	case t.eat("do", "nothing"):
		s.put(" DO NOTHING")
		return nil
	case t.eat("do", "update", "set"):
		s.put(" DO UPDATE")
		if err := s.assignments("where", "returning"); err != nil {
			return err
		}
		return s.condition("WHERE", "returning")
	}
	return failed(t.offset(), "DO NOTHING or DO UPDATE SET is expected here")
}

// update reads what follows UPDATE:
//
//	name [[AS] alias] SET .. [FROM ..] [WHERE ..] [RETURNING ..]
func (s *statement) update() error {
	s.put("UPDATE ")
	if err := s.aim("update"); err != nil {
		return err
	}
	if err := s.alias("set"); err != nil {
		return err
	}
	if !s.text.eat("set") {
		return failed(s.text.offset(), "SET is expected here")
	}
	if err := s.assignments("from", "where", "returning"); err != nil {
		return err
	}
	if err := s.tables("FROM", "where", "returning"); err != nil {
		return err
	}
	if err := s.condition("WHERE", "returning"); err != nil {
		return err
	}
	return s.finish()
}

// delete reads what follows DELETE:
//
//	FROM name [[AS] alias] [USING ..] [WHERE ..] [RETURNING ..]
func (s *statement) delete() error {
	if !s.text.eat("from") {
		return failed(s.text.offset(), "FROM is expected here")
	}
	s.put("DELETE FROM ")
	if err := s.aim("delete"); err != nil {
		return err
	}
	if err := s.alias("using", "where", "returning"); err != nil {
		return err
	}
	if err := s.tables("USING", "where", "returning"); err != nil {
		return err
	}
	if err := s.condition("WHERE", "returning"); err != nil {
		return err
	}
	return s.finish()
}

// create reads what follows CREATE:
//
//	[OR REPLACE] TABLE [IF NOT EXISTS] name [(columns)] AS query [WITH [NO] DATA]
//	[OR REPLACE] VIEW [IF NOT EXISTS] name [(columns)] AS query
func (s *statement) create() error {
	t := s.text
	s.put("CREATE ")
	if t.eat("or", "replace") {
		s.put("OR REPLACE ")
	}
	at := t.peek()
	switch {
	case t.eat("table"):
		s.put("TABLE ")
		s.Kind = "create table"
	case t.eat("view"):
		s.put("VIEW ")
		s.Kind = "create view"
	default:
		what := "that"
		if at.kind == word {
			what = clip(at.text, 40)
		}
		return refuseAt(at.start, "CREATE %s is not allowed: CREATE TABLE .. AS and CREATE VIEW .. AS are", what)
	}
	if t.eat("if", "not", "exists") {
		s.put("IF NOT EXISTS ")
	}
	name, err := t.name()
	if err != nil {
		return err
	}
	s.Target = name
	if err := s.place(name); err != nil {
		return err
	}
	s.put(quoteName(name))
	return s.definition()
}

// definition reads the columns and the query of a new table or view.
func (s *statement) definition() error {
	t := s.text
	if t.peek().text == "(" {
		columns, err := t.columns()
		if err != nil {
			return refuseAt(t.offset(), "CREATE with types or constraints is not allowed here: it takes its columns from AS SELECT")
		}
		s.put(columns)
	}
	if !t.eat("as") {
		return refuseAt(t.offset(), "AS and a query are expected here")
	}
	query, err := s.query(t.upTo(func(i int) bool { return t.tokens[i].text == ";" || dataClause(t, i) > 0 }), limits{
		noParameters: "a table or view is not defined with parameters",
	})
	if err != nil {
		return err
	}
	s.put(" AS ", query)
	switch dataClause(t, t.next) {
	case 2:
		s.put(" WITH DATA")
		t.next += 2
	case 3:
		s.put(" WITH NO DATA")
		t.next += 3
	}
	return t.end()
}

// dataClause returns how many words WITH [NO] DATA has at a token, if it stands
// there.
func dataClause(t *text, i int) int {
	ends := func(n int) bool { return i+n == len(t.tokens) || i+n < len(t.tokens) && t.tokens[i+n].text == ";" }
	is := func(n int, w string) bool { return i+n < len(t.tokens) && t.tokens[i+n].is(w) }
	switch {
	case is(0, "with") && is(1, "data") && ends(2):
		return 2
	case is(0, "with") && is(1, "no") && is(2, "data") && ends(3):
		return 3
	}
	return 0
}
