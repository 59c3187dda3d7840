package stack

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/infrastructure"
	"github.com/sluice-cd/sluice/internal/words"
)

// reading is everything that was read of AWS at one time.
type reading struct {
	stacks []description // in the order in which an update is executed
	// Of the last stack, which names the update.
	metadata  string // of its template, in JSON
	parameter string // the value of VersionResource

	quotas []cells.Quota
	unread []string // what else could not be read, and why
}

// description is one stack.
type description struct {
	id, name, status string
	drift            string    // in AWS's words; drifted counts
	checked          time.Time // when drift was last looked for; zero: never
	drifted          []string  // resources, if they could be read
	changeSets       []changeSet
	parameters       map[string]string
}

// changeSet is a prepared change of a stack.
type changeSet struct {
	id, name, status, execution string
	made                        time.Time
}

// VersionResource names the parameter of the last template whose value is the number of the update.
const VersionResource = "InfrastructureVersion"

// judge says what a reading means. An error says that it has no number.
//
// The last stack alone names the number: AWS refuses to update a stack in which nothing but the template's Metadata
// changes, so that of another one may be older.
func judge(r reading) (infrastructure.State, error) {
	last := &r.stacks[len(r.stacks)-1]
	is := infrastructure.State{Stack: last.id, Quotas: r.quotas, Unread: bounded(r.unread, cells.MaxUnread)}
	named, err := numberOf(last.name, r.metadata)
	if err != nil {
		return infrastructure.State{}, err
	}
	written, err := strconv.Atoi(strings.TrimSpace(r.parameter))
	if err != nil || written < 0 || written > cells.MaxInfrastructure {
		return infrastructure.State{}, &Error{What: "ssm:GetParameter",
			Fault: fmt.Sprintf("the parameter %s of the stack %s is %.40q, which is no number", VersionResource,
				last.name, r.parameter),
			Remedy: "execute the newest infrastructure update again"}
	}
	is.Number = min(named, written)
	for i := range r.stacks {
		s := &r.stacks[i]
		status, err := statusOf(s)
		if err != nil {
			return infrastructure.State{}, err
		}
		is.Status = worse(is.Status, status)
		is.Drift = append(is.Drift, s.drifted...)
	}
	// While an update is executed, one of the two may be ahead; afterwards somebody changed the parameter.
	if named != written && is.Status != cells.InfrastructureApplying && !slices.Contains(is.Drift, VersionResource) {
		is.Drift = append(is.Drift, VersionResource)
	}
	if len(is.Drift) > 0 {
		is.Status = worse(is.Status, cells.InfrastructureDrifted)
	}
	slices.Sort(is.Drift)
	is.Drift = bounded(is.Drift, cells.MaxDrift)
	is.ChangeSet = newestChangeSet(r.stacks)
	is.Parameters = shown(r.stacks)
	return is, nil
}

// numberOf reads the number that a template's Metadata names.
func numberOf(name, metadata string) (int, error) {
	var m struct{ Sluice struct{ Infrastructure any } }
	if metadata != "" {
		if err := json.Unmarshal([]byte(metadata), &m); err != nil {
			m.Sluice.Infrastructure = nil
		}
	}
	var n int
	var err error
	switch v := m.Sluice.Infrastructure.(type) {
	case float64:
		n = int(v)
		if float64(n) != v {
			err = strconv.ErrSyntax
		}
	case string: // AWS writes some numbers so
		n, err = strconv.Atoi(v)
	default:
		err = strconv.ErrSyntax
	}
	if err != nil || n < 0 || n > cells.MaxInfrastructure {
		return 0, &Error{What: "cloudformation:GetTemplateSummary",
			Fault: "the template of the stack " + name + " names no infrastructure update in its Metadata",
			Remedy: "name the stack that was made of the update's last template; execute the newest infrastructure " +
				"update if that is an older one"}
	}
	return n, nil
}

// statusOf translates the status of a stack.
func statusOf(s *description) (cells.InfrastructureStatus, error) {
	status := s.status
	switch {
	case strings.Contains(status, "ROLLBACK"), strings.HasSuffix(status, "_FAILED"),
		strings.HasPrefix(status, "DELETE_"):
		return cells.InfrastructureFailed, nil
	case status == "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", strings.HasSuffix(status, "_COMPLETE"):
		if s.drift == drifted {
			return cells.InfrastructureDrifted, nil
		}
		return cells.InfrastructureApplied, nil
	case strings.HasSuffix(status, "_IN_PROGRESS"):
		return cells.InfrastructureApplying, nil
	}
	return "", &Error{What: "cloudformation:DescribeStacks",
		Fault:  fmt.Sprintf("the stack %s is in a status that this agent does not know, %.60q", s.name, status),
		Remedy: "update the agent"}
}

// worse returns the status that counts of two stacks.
func worse(a, b cells.InfrastructureStatus) cells.InfrastructureStatus {
	order := []cells.InfrastructureStatus{"", cells.InfrastructureApplied, cells.InfrastructureDrifted,
		cells.InfrastructureApplying, cells.InfrastructureFailed}
	if slices.Index(order, a) > slices.Index(order, b) {
		return a
	}
	return b
}

// newestChangeSet returns the newest change that waits for the customer, or is being executed; nil: there is none.
func newestChangeSet(stacks []description) *cells.ChangeSet {
	var newest *changeSet
	var of *description
	for i := range stacks {
		for j := range stacks[i].changeSets {
			c := &stacks[i].changeSets[j]
			open := c.execution == "AVAILABLE" || strings.HasPrefix(c.execution, "EXECUTE_IN_") ||
				c.execution == "EXECUTE_FAILED" || strings.HasPrefix(c.status, "CREATE_PENDING") ||
				c.status == "CREATE_IN_PROGRESS"
			if open && (newest == nil || c.made.After(newest.made)) {
				newest, of = c, &stacks[i]
			}
		}
	}
	if newest == nil {
		return nil
	}
	status := newest.status
	if strings.HasPrefix(newest.execution, "EXECUTE_") {
		status = newest.execution
	}
	return &cells.ChangeSet{Name: words.Clip(newest.name, cells.MaxResource), Status: status,
		Link: ChangeSetLink(of.id, newest.id)}
}

// shown returns the parameters that are reported. AWS shows asterisks of one that a template marks as NoEcho.
func shown(stacks []description) map[string]string {
	all := map[string]string{}
	for i := range stacks {
		maps.Copy(all, stacks[i].parameters)
	}
	for i, name := range slices.Sorted(maps.Keys(all)) {
		value := all[name]
		if i >= cells.MaxParameters || len(name) > cells.MaxResource || value != "" && strings.Trim(value, "*") == "" {
			delete(all, name)
			continue
		}
		all[name] = words.Clip(value, cells.MaxResource)
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// bounded returns at most n texts, each of at most cells.MaxResource bytes.
func bounded(all []string, n int) []string {
	all = all[:min(len(all), n)]
	for i, text := range all {
		all[i] = words.Clip(words.OneLine(text), cells.MaxResource)
	}
	return all
}
