package wasm

import (
	"context"
	"fmt"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/policy"
)

// Modes keep what operators have set while a server ran, so that a plugin which was
// taken out of the way is not back in it after a restart.
//
// A mode that was set holds until the settings say something else than they did
// then: whoever wrote that knew better. Setting the mode that the settings have ends
// it too.
type Modes struct{ Table *metadata.Table[SetMode] }

// SetMode is a mode that an operator has set.
type SetMode struct {
	Plugin   string
	Mode     policy.Mode
	Settings policy.Mode // what they said then
	SetAt    time.Time
}

// NewModes returns the handle of the table.
func NewModes() *Modes {
	return &Modes{metadata.NewTable(metadata.Def[SetMode]{
		Name: "plugin_modes",
		Columns: []metadata.Column{
			{Name: "plugin", Kind: metadata.Text}, {Name: "mode", Kind: metadata.Text}, {Name: "settings_mode", Kind: metadata.Text},
			{Name: "set_at", Kind: metadata.Time},
		},
		Key:    func(s *SetMode) string { return s.Plugin },
		Encode: func(s *SetMode) []any { return []any{s.Plugin, string(s.Mode), string(s.Settings), s.SetAt} },
		Decode: func(scan func(...any) error) (s SetMode, err error) {
			err = scan(&s.Plugin, &s.Mode, &s.Settings, &s.SetAt)
			return s, err
		},
		Missing: eider.NotFound, Noun: "mode",
	})}
}

// Held reads the modes that hold for the items, by name, and those that hold no
// more.
func (m *Modes) Held(ctx context.Context, view *metadata.View, items []Item) (held map[string]policy.Mode, past []SetMode, err error) {
	rows, err := view.Query(ctx, "SELECT plugin, mode, settings_mode, set_at FROM plugin_modes ORDER BY plugin")
	if err != nil {
		return nil, nil, fmt.Errorf("read plugin_modes: %w", err)
	}
	defer rows.Close()
	settings := map[string]policy.Mode{}
	for _, i := range items {
		settings[i.Name] = i.mode()
	}
	held = map[string]policy.Mode{}
	for rows.Next() {
		var s SetMode
		if err := rows.Scan(&s.Plugin, &s.Mode, &s.Settings, &s.SetAt); err != nil {
			return nil, nil, fmt.Errorf("read plugin_modes: %w", err)
		}
		if settings[s.Plugin] == s.Settings {
			held[s.Plugin] = s.Mode
		} else {
			past = append(past, s)
		}
	}
	return held, past, rows.Err()
}

// Of returns the mode that holds for the item, as r sees it: a change that is staged
// and not committed yet counts, which the plugin itself does not know of.
func (m *Modes) Of(ctx context.Context, r metadata.Reader, item Item) (policy.Mode, error) {
	set, err := m.Table.Get(ctx, r, item.Name)
	switch {
	case eider.CodeOf(err) == eider.NotFound:
		return item.mode(), nil
	case err != nil:
		return "", err
	case set.Settings != item.mode():
		return item.mode(), nil
	}
	return set.Mode, nil
}

// Keep stages that the mode of the item holds, or that the settings do again.
func (m *Modes) Keep(ctx context.Context, tx *metadata.Tx, item Item, mode policy.Mode) error {
	if mode == item.mode() {
		return m.Forget(ctx, tx, item.Name)
	}
	return m.Table.Put(ctx, tx, SetMode{item.Name, mode, item.mode(), time.Now().UTC().Truncate(time.Microsecond)})
}

// Forget stages that no mode is set for the plugin.
func (m *Modes) Forget(ctx context.Context, tx *metadata.Tx, plugin string) error {
	err := m.Table.Delete(ctx, tx, plugin)
	if eider.CodeOf(err) == eider.NotFound {
		return nil
	}
	return err
}
