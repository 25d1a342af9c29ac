package plugin_test

import (
	"fmt"

	plugin "github.com/eiderdb/eider/sdk/go"
)

// What decides is a plain function, so its tests are plain too.
func ExamplePolicy() {
	configure := func(config plugin.JSON) (func(*plugin.Event) plugin.Decision, error) {
		protected := config.Get("protect").String()
		return func(e *plugin.Event) plugin.Decision {
			if e.Operation == "drop_project" && e.Resource.ID == protected {
				return plugin.Deny(protected + " stays")
			}
			return plugin.Allow()
		}, nil
	}
	_ = plugin.Policy(configure) // in a plugin: var _ = plugin.Policy(configure)

	decide, err := configure(`{"protect": "production"}`)
	if err != nil {
		panic(err)
	}
	fmt.Println(decide(&plugin.Event{Operation: "drop_project", Resource: plugin.Resource{ID: "production"}}))
	fmt.Println(decide(&plugin.Event{Operation: "drop_project", Resource: plugin.Resource{ID: "test"}}))
	// Output:
	// deny denied_by_policy: production stays
	// allow
}
