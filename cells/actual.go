package cells

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// ActualInfrastructure is what a cell reports of its infrastructure. Without a source it is a bare number, somebody's
// claim: that is how older agents report it, and JSON of it is a number then.
type ActualInfrastructure struct {
	Number int                  `json:"number" doc:"of the update that the cell's infrastructure names; 0: none"`
	Source InfrastructureSource `json:"source" enum:"file,cloudformation"`
	Status InfrastructureStatus `json:"status,omitempty" enum:"applied,applying,failed,drifted" doc:"none: it was never read"`

	ChangeSet *ChangeSet `json:"changeSet,omitempty" doc:"that waits for the customer, or is being executed"`
	Drift     []string   `json:"drift,omitempty" doc:"resources that were changed by hand"`

	Stack      string            `json:"stack,omitempty" doc:"ARN of the stack that has the number"`
	Parameters map[string]string `json:"parameters,omitempty" doc:"of the stacks, without secrets"`
	Quotas     []Quota           `json:"quotas,omitempty" doc:"that the infrastructure needs"`
	Unread     []string          `json:"unread,omitempty" doc:"what else of it can't be read, and why"`

	At    time.Time `json:"at,omitzero" doc:"when it was last read; in a report by the cell's clock"`
	Fault string    `json:"fault,omitempty" doc:"why it can't be read since; the rest is what is known from before"`
}

// InfrastructureSource says what a cell's actual infrastructure is read from.
type InfrastructureSource string

const (
	SourceFile           InfrastructureSource = "file"           // what somebody keeps for a machine without a cloud
	SourceCloudFormation InfrastructureSource = "cloudformation" // the stack itself
)

// InfrastructureStatus is what a cell's infrastructure is in.
type InfrastructureStatus string

const (
	InfrastructureApplied  InfrastructureStatus = "applied"  // it is as the update's templates say
	InfrastructureApplying InfrastructureStatus = "applying" // an update is being executed
	InfrastructureFailed   InfrastructureStatus = "failed"   // an update failed, or was rolled back
	InfrastructureDrifted  InfrastructureStatus = "drifted"  // it was changed by hand
)

// ChangeSet is a prepared change of a cell's infrastructure.
type ChangeSet struct {
	Name   string `yaml:"name" json:"name" required:"true"`
	Status string `yaml:"status" json:"status,omitempty" doc:"in the words of its source, such as CREATE_COMPLETE"`
	Link   string `yaml:"link" json:"link,omitempty" doc:"where the customer executes it"`
}

// Quota is a limit of the cell's account.
type Quota struct {
	Service string  `json:"service" doc:"as AWS names it, such as ec2"`
	Code    string  `json:"code" doc:"such as L-1216C47A"`
	Least   float64 `json:"least" doc:"that is needed"`
	Value   float64 `json:"value" doc:"that the account has"`
}

// IsShort reports whether the account has less than is needed.
func (q Quota) IsShort() bool { return q.Value < q.Least }

func (q Quota) String() string {
	text := fmt.Sprintf("quota %s %s is %g", q.Service, q.Code, q.Value)
	if q.IsShort() {
		text += fmt.Sprintf(", below the %g that are needed", q.Least)
	}
	return text
}

// Bounds of ActualInfrastructure.
const (
	MaxInfrastructure = 1_000_000 // the greatest number
	MaxDrift          = 20        // resources
	MaxResource       = 256
	MaxLink           = 2 << 10
	MaxParameters     = 40
	MaxQuotas         = 32
	MaxUnread         = 10
)

// actualFields are those of ActualInfrastructure, without its methods.
type actualFields ActualInfrastructure

// MarshalJSON encodes a bare number as a number.
func (i ActualInfrastructure) MarshalJSON() ([]byte, error) {
	if i.Source == "" {
		return json.Marshal(i.Number)
	}
	return json.Marshal(actualFields(i))
}

// UnmarshalJSON decodes a number or an object. It ignores fields that it does not know: a later agent may report more.
func (i *ActualInfrastructure) UnmarshalJSON(data []byte) error {
	*i = ActualInfrastructure{}
	if strings.HasPrefix(string(data), "{") {
		return json.Unmarshal(data, (*actualFields)(i))
	}
	return json.Unmarshal(data, &i.Number)
}

// Counted returns the number of the newest update that counts as executed; before is the one that counted until now.
// What is not applied adds nothing, and what was not read changes nothing (R62).
func (i *ActualInfrastructure) Counted(before int) int {
	switch {
	case i.Source == "", i.Status == InfrastructureApplied && len(i.Drift) == 0:
		return i.Number
	case i.Status == "":
		return before
	}
	return min(before, i.Number)
}

// Differs reports whether o says something else, other than when it was read. Both may be nil.
func (i *ActualInfrastructure) Differs(o *ActualInfrastructure) bool {
	if i == nil || o == nil {
		return i != o
	}
	a, b := *i, *o
	a.At, b.At = time.Time{}, time.Time{}
	return !reflect.DeepEqual(a, b)
}

// NeedsLook reports whether somebody should look at it: it is not applied, or could not be read.
func (i *ActualInfrastructure) NeedsLook() bool {
	return i != nil && (i.Status != InfrastructureApplied || len(i.Drift) > 0 || i.Fault != "" || len(i.Unread) > 0 ||
		i.ChangeSet != nil || slices.ContainsFunc(i.Quotas, Quota.IsShort))
}

// String returns it in words. Names and the fault are as reported.
func (i *ActualInfrastructure) String() string {
	if i.Status == "" {
		return fmt.Sprintf("never read from %s: %s", i.Source, i.Fault)
	}
	text := fmt.Sprintf("%d, %s, read from %s", i.Number, i.Status, i.Source)
	if c := i.ChangeSet; c != nil {
		text += "; change set " + c.Name
		if c.Status != "" {
			text += " is " + c.Status
		}
		if c.Link != "" {
			text += ": " + c.Link
		}
	}
	if len(i.Drift) > 0 {
		text += "; changed by hand: " + strings.Join(i.Drift, ", ")
	}
	for _, q := range i.Quotas {
		if q.IsShort() {
			text += "; " + q.String()
		}
	}
	if len(i.Unread) > 0 {
		text += "; not read: " + strings.Join(i.Unread, ", ")
	}
	if i.Fault != "" {
		text += "; not read since " + i.At.UTC().Format(time.RFC3339) + ": " + i.Fault
	}
	return text
}

// validate checks the bounds of the fields.
func (i *ActualInfrastructure) validate() error {
	if i.Number < 0 {
		return fmt.Errorf("%d is below 0", i.Number)
	}
	if i.Source == "" {
		if !reflect.DeepEqual(*i, ActualInfrastructure{Number: i.Number}) {
			return fmt.Errorf("source is missing")
		}
		return nil
	}
	statuses := []InfrastructureStatus{InfrastructureApplied, InfrastructureApplying, InfrastructureFailed,
		InfrastructureDrifted}
	switch {
	case i.Source != SourceFile && i.Source != SourceCloudFormation:
		return fmt.Errorf("there is no source %.80q", i.Source)
	case i.Number > MaxInfrastructure:
		return fmt.Errorf("%d is above %d", i.Number, MaxInfrastructure)
	case i.Status == "" && i.Fault == "":
		return fmt.Errorf("status is missing, and no fault says why")
	case i.Status != "" && !slices.Contains(statuses, i.Status):
		return fmt.Errorf("there is no status %.80q", i.Status)
	case len(i.Drift) > MaxDrift:
		return fmt.Errorf("drift of more than %d resources", MaxDrift)
	case len(i.Fault) > maxReason || !utf8.ValidString(i.Fault):
		return fmt.Errorf("fault must be UTF-8 of at most %d bytes", maxReason)
	case len(i.Parameters) > MaxParameters || len(i.Quotas) > MaxQuotas || len(i.Unread) > MaxUnread:
		return fmt.Errorf("more than %d parameters, %d quotas or %d faults", MaxParameters, MaxQuotas, MaxUnread)
	}
	return i.validateTexts()
}

// validateTexts checks the size of texts that come from outside.
func (i *ActualInfrastructure) validateTexts() error {
	named := append(slices.Clone(i.Drift), i.Unread...)
	for name, value := range i.Parameters {
		named = append(named, name, value)
	}
	for _, q := range i.Quotas {
		if math.IsNaN(q.Least+q.Value) || math.IsInf(q.Least+q.Value, 0) {
			return fmt.Errorf("a quota is no number")
		}
		named = append(named, q.Service, q.Code)
	}
	links := []string{i.Stack}
	if c := i.ChangeSet; c != nil {
		named, links = append(named, c.Name, c.Status), append(links, c.Link)
	}
	for _, name := range named {
		if len(name) > MaxResource || !utf8.ValidString(name) {
			return fmt.Errorf("names and values of infrastructure must be UTF-8 of at most %d bytes each", MaxResource)
		}
	}
	for _, link := range links {
		if len(link) > MaxLink || !utf8.ValidString(link) {
			return fmt.Errorf("stack and link must be UTF-8 of at most %d bytes each", MaxLink)
		}
	}
	return nil
}
