package channels

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// preparePolicy validates a decoded policy by itself, then fills in the defaults.
func preparePolicy(doc *manifest.Doc[Channel]) []manifest.Fault {
	c := &doc.Value
	c.Name = path.Base(path.Dir(doc.File))
	c.lines = map[string]int{}
	faults := slices.Concat(checkAfter(doc), checkGates(doc), checkRollout(doc))
	for _, wrong := range c.Maintenance.Check() {
		faults = append(faults, doc.Fault(manifest.WrongValue, "maintenance."+wrong.Field, "%s", wrong.Reason))
	}
	for i, g := range c.Gates {
		if g.Approval != nil {
			at := approvalPath(i)
			c.lines[at] = doc.Line(at)
		}
	}
	if !manifest.IsLabel(c.Name) {
		faults = append(faults, doc.Fault(manifest.WrongName, "",
			"%.70q can't name a channel: use small letters, digits and hyphens, at most 63", c.Name))
	}
	faults = append(faults, doc.RefuseEmpty()...)
	for i, f := range c.Freezes {
		if !f.From.Before(f.Until) {
			faults = append(faults, doc.Fault(manifest.Conflict, fmt.Sprintf("freezes[%d]", i),
				"a freeze must end after it begins: until is not after from"))
		}
	}
	c.applyDefaults()
	return faults
}

func approvalPath(gate int) string { return fmt.Sprintf("gates[%d].approval", gate) }
func afterPath(i int) string       { return fmt.Sprintf("after[%d]", i) }

func checkAfter(doc *manifest.Doc[Channel]) (faults []manifest.Fault) {
	c := &doc.Value
	for i, up := range c.After {
		at := afterPath(i)
		c.lines[at] = doc.Line(at)
		switch {
		case up == c.Name:
			faults = append(faults, doc.Fault(manifest.Conflict, at, "a channel can't come after itself"))
		case slices.Contains(c.After[:i], up):
			faults = append(faults, doc.Fault(manifest.Duplicate, at, "channel %q is there twice", up))
		}
	}
	return faults
}

func checkRollout(doc *manifest.Doc[Channel]) (faults []manifest.Fault) {
	r := &doc.Value.Rollout
	fault := func(code manifest.FaultCode, at, format string, args ...any) {
		faults = append(faults, doc.Fault(code, "rollout."+at, format, args...))
	}
	var cells int
	var percent float64
	for i, w := range r.Waves {
		at := fmt.Sprintf("waves[%d]", i)
		switch {
		case w.Cells > 0 && w.Percent > 0:
			fault(manifest.Conflict, at, "a wave counts cells or percent, not both")
		case w.Cells == 0 && w.Percent == 0 && len(w.Labels) == 0:
			fault(manifest.Missing, at, "a wave needs cells, percent or, in the first wave, labels")
		case w.Cells > 0 && w.Cells <= cells:
			fault(manifest.Conflict, at+".cells", "waves are cumulative: more than the %d cells before", cells)
		case w.Percent > 0 && w.Percent <= percent:
			fault(manifest.Conflict, at+".percent", "waves are cumulative: more than the %v percent before", percent)
		case math.IsNaN(w.Percent):
			fault(manifest.WrongValue, at+".percent", "percent must be a number")
		}
		if i > 0 && len(w.Labels) > 0 {
			fault(manifest.Conflict, at+".labels", "only the first wave chooses by labels")
		}
		cells, percent = max(cells, w.Cells), max(percent, w.Percent)
	}
	if n := len(r.Waves); n > 0 && r.Waves[n-1].Percent != 100 {
		faults = append(faults, doc.Warning(manifest.WrongValue, fmt.Sprintf("rollout.waves[%d]", n-1),
			"the last wave is not 100 percent: all other cells follow at once when it is through"))
	}
	return faults
}

// applyDefaults fills in the documented defaults. Every reader of a policy sees the defaults.
func (c *Channel) applyDefaults() {
	setDefault(&c.Promote, PromoteAuto)
	setDefault(&c.Advance, AdvanceSettled)
	setDefault(&c.People, PeopleBound)
	setDefault(&c.OnFailure, OnFailureRollback)
	setDefault(&c.Rollout.Stall, 30*time.Minute)
	setDefault(&c.Rollout.Watch, time.Hour)
	if c.Maintenance != (maintenance.Policy{}) {
		c.Maintenance = c.Maintenance.WithDefaults()
	}
	for i := range c.Gates {
		switch g := &c.Gates[i]; {
		case g.Soak != nil:
			setDefault(&g.Soak.Cells, 1)
			if g.Soak.Percent == nil {
				all := 100.0
				g.Soak.Percent = &all
			}
		case g.Window != nil:
			setDefault(&g.Window.Zone, "UTC")
		case g.Windows != nil:
			for i := range g.Windows {
				setDefault(&g.Windows[i].Zone, "UTC")
			}
		case g.Approval != nil:
			setDefault(&g.Approval.Count, 1)
		case g.Check != nil:
			setDefault(&g.Check.ValidFor, 5*time.Minute)
			setDefault(&g.Check.Timeout, 10*time.Second)
		case g.Metric != nil:
			g.Metric.applyDefaults()
		}
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// checkPolicyReferences returns what is wrong with a policy's references to other files: its upstream channels (fault
// 44), and the people who are to approve.
func checkPolicyReferences(c *Channel, policies map[string]*Channel, exists func(name string) bool,
	people *Pipeline) (faults []manifest.Fault) {
	file := policyFile(c.Name)
	for i, up := range c.After {
		if !exists(up) {
			faults = append(faults, manifest.Fault{File: file, Line: c.lines[afterPath(i)],
				Code: manifest.UnknownReference, Message: fmt.Sprintf("there is no channel %q", up)})
		}
	}
	if cycle := findCycle(c.Name, policies); cycle != nil {
		faults = append(faults, manifest.Fault{File: file, Line: c.lines[afterPath(slices.Index(c.After, cycle[1]))],
			Code:    manifest.Conflict,
			Message: "channels come after each other in a circle: " + strings.Join(cycle, " after ")})
	}
	for i, g := range c.Gates {
		if g.Approval == nil || people == nil {
			continue
		}
		if code, message := checkApprovable(g.Approval, people); message != "" {
			faults = append(faults, manifest.Fault{File: file, Line: c.lines[approvalPath(i)], Code: code,
				Message: message})
		}
	}
	return faults
}

// findCycle returns the shortest way from name along after back to name, or nil. checkAfter reports a channel that
// names itself.
func findCycle(name string, policies map[string]*Channel) []string {
	via := map[string]string{}
	for queue := []string{name}; len(queue) > 0; queue = queue[1:] {
		policy := policies[queue[0]]
		if policy == nil {
			continue
		}
		for _, up := range policy.After {
			if up == name && policy.Name != name {
				cycle := []string{name}
				for step := policy.Name; step != name; step = via[step] {
					cycle = slices.Insert(cycle, 0, step)
				}
				return slices.Insert(cycle, 0, name)
			}
			if _, seen := via[up]; !seen && up != name {
				via[up] = policy.Name
				queue = append(queue, up)
			}
		}
	}
	return nil
}

// checkApprovable returns why the approvals that a requires can never come together, or "".
func checkApprovable(a *Approval, p *Pipeline) (manifest.FaultCode, string) {
	signers := map[string]int{} // by role
	total := 0
	for _, m := range p.People {
		if m == nil || len(m.Keys)+len(m.Passkeys) == 0 && !(p.TrustAuthors && m.Email != "") {
			continue
		}
		if a.acceptsRoles(m.Roles) {
			total++
		}
		for _, role := range m.Roles {
			signers[role]++
		}
	}
	for _, role := range a.From {
		if signers[role] == 0 {
			return manifest.UnknownReference,
				fmt.Sprintf("no person in %s who can sign has the role %q", pipelineFile, role)
		}
	}
	if total < a.Count {
		return manifest.Conflict,
			fmt.Sprintf("needs %d approvals, and %s lists %d who can sign for it", a.Count, pipelineFile, total)
	}
	return "", ""
}
