# The quota of the SDKs' example guard as a policy of OPA.
package guard

# What the example's config says.
limit := 1000000

allow := {"decision": "allow"}

most := object.get(input, ["Project", "settings", "quota", "bytes"], limit)

default decide := {"decision": "allow"}

decide := {"decision": "deny"} if {
	input.Adds.bytes > 0
	input.ProjectUsage.bytes > most
}
