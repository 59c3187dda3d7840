package simulate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
)

// Suggest returns a scenario to begin with, as the text of a file: releases come regularly and one of them is bad,
// people approve and ask for what the policies leave to them, and outside gates answer yes.
func Suggest(d *plan.Desired, length time.Duration) []byte {
	var b strings.Builder
	b.WriteString("apiVersion: sluice/v1\nkind: Scenario\nseed: 1 # another number makes another month\n")
	writeReleases(&b, d, length)
	b.WriteString("cells:\n  fails: 0.002 # the probability that a release fails in a cell\n")
	writePeople(&b, d, length)
	writeAnswers(&b, d)
	return []byte(b.String())
}

// cuts returns the versions after the greatest one, with the days on which they are cut.
func cuts(d *plan.Desired, length time.Duration) (versions []string, days []int) {
	numbers, last := "1.0", uint64(0)
	if n := len(d.Versions); n > 0 {
		text, _, _ := strings.Cut(d.Versions[n-1].Version.String(), "-")
		if i := strings.LastIndexByte(text, '.'); i >= 0 {
			if patch, err := strconv.ParseUint(text[i+1:], 10, 63); err == nil {
				numbers, last = text[:i], patch
			}
		}
	}
	for day := 1; time.Duration(day+2)*24*time.Hour < length; day += 4 { // the last has time to arrive
		last++
		versions, days = append(versions, fmt.Sprintf("%s.%d", numbers, last)), append(days, day)
	}
	return versions, days
}

func writeReleases(b *strings.Builder, d *plan.Desired, length time.Duration) {
	versions, days := cuts(d, length)
	if len(versions) == 0 {
		return
	}
	b.WriteString("releases:\n")
	for i, v := range versions {
		bad := ""
		if i == 2 {
			bad = ", fails: 0.3"
		}
		fmt.Fprintf(b, "  - {at: %dd, version: %s%s}\n", days[i], quote(v), bad)
	}
}

// writePeople writes approvals two hours after each cut, and requests a day after it.
func writePeople(b *strings.Builder, d *plan.Desired, length time.Duration) {
	var lines []string
	for _, name := range d.Order {
		policy := d.Channels[name].Valid
		if policy == nil {
			continue
		}
		for _, who := range approvers(d, policy) {
			lines = append(lines, fmt.Sprintf("  - {at: 2h, do: approve, channel: %s, release: \"*\", by: %s}\n", quote(name),
				quote(who)))
		}
		if policy.Promote == channels.PromoteManual {
			versions, days := cuts(d, length)
			for i, v := range versions {
				lines = append(lines, fmt.Sprintf("  - {at: %dd, do: request, channel: %s, release: %s}\n", days[i]+1,
					quote(name), quote(v)))
			}
		}
	}
	if len(lines) > 0 {
		b.WriteString("people:\n" + strings.Join(lines, ""))
	}
}

// approvers returns people who together satisfy a channel's approval gates.
func approvers(d *plan.Desired, policy *channels.Channel) (chosen []string) {
	for _, g := range policy.Gates {
		if g.Approval == nil {
			continue
		}
		needed := max(g.Approval.Count, 1)
		names := make([]string, 0, len(d.Pipeline.People))
		for name, m := range d.Pipeline.People {
			if m != nil && (len(g.Approval.From) == 0 || slices.ContainsFunc(m.Roles, func(role string) bool {
				return slices.Contains(g.Approval.From, role)
			})) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		chosen = append(chosen, names[:min(needed, len(names))]...)
	}
	slices.Sort(chosen)
	return slices.Compact(chosen)
}

func writeAnswers(b *strings.Builder, d *plan.Desired) {
	var gates []string
	for _, name := range d.Order {
		if policy := d.Channels[name].Valid; policy != nil {
			for _, g := range policy.Gates {
				if (g.Check != nil || g.Metric != nil) && !slices.Contains(gates, g.ID) {
					gates = append(gates, g.ID)
				}
			}
		}
	}
	if len(gates) == 0 {
		return
	}
	b.WriteString("answers:\n")
	for _, id := range gates {
		fmt.Fprintf(b, "  - {gate: %s, holds: true, reason: \"as the scenario says\"}\n", quote(id))
	}
}

// quote returns text as a scalar of YAML, which reads JSON's strings.
func quote(text string) string {
	quoted, _ := json.Marshal(text) // strings never fail
	return string(quoted)
}
