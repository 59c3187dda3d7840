package stacktest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// stack is one of CloudFormation's. Without a template it is in review: a change set would make it.
type stack struct {
	name, id, status string
	template         *template
	values           map[string]string // of its parameters
	next             *change           // being executed
	changes          []*change         // that wait
	byHand           []string
	drift            string
	drifted          []string
	checked          time.Time
}

// change is a change set, or what an update makes without one.
type change struct {
	name, id, status, execution, reason string
	template                            *template
	values                              map[string]string
	made                                time.Time
}

func (a *Account) formation(q *query, action string) (fields, error) {
	switch action {
	case "CreateStack", "UpdateStack":
		return a.changeAtOnce(q, action == "CreateStack")
	case "CreateChangeSet":
		return a.createChangeSet(q)
	case "GetTemplateSummary":
		return a.summary(q)
	}
	s, err := a.find(q.text("StackName"))
	if err != nil {
		if s, err = a.findByChangeSet(q.text("ChangeSetName"), err); err != nil {
			return nil, err
		}
	}
	switch action {
	case "DescribeStacks":
		return fields{{"Stacks", []fields{s.describe()}}}, nil
	case "ListChangeSets":
		var all []fields
		for _, c := range s.changes {
			all = append(all, s.describeChange(c))
		}
		return fields{{"Summaries", all}}, nil
	case "DescribeChangeSet", "ExecuteChangeSet", "DeleteChangeSet":
		return a.useChangeSet(q, s, action)
	case "DescribeStackResource":
		return s.resource(q.text("LogicalResourceId"))
	case "DetectStackDrift":
		a.look(s)
		return fields{{"StackDriftDetectionId", "d"}}, nil
	case "DescribeStackResourceDrifts":
		var all []fields
		for _, name := range s.drifted {
			all = append(all, fields{{"StackId", s.id}, {"LogicalResourceId", name},
				{"ResourceType", "AWS::SSM::Parameter"}, {"StackResourceDriftStatus", "MODIFIED"},
				{"Timestamp", timeText(s.checked)}})
		}
		return fields{{"StackResourceDrifts", all}}, nil
	case "DeleteStack":
		delete(a.stacks, s.name)
		return nil, nil
	}
	return nil, &fault{"InvalidAction", action, http.StatusBadRequest}
}

func (a *Account) find(name string) (*stack, error) {
	for _, s := range a.stacks {
		if name != "" && (s.name == name || s.id == name) {
			return s, nil
		}
	}
	return nil, invalid("Stack with id %s does not exist", name)
}

// findByChangeSet finds the stack of a change set's ARN.
func (a *Account) findByChangeSet(id string, err error) (*stack, error) {
	for _, s := range a.stacks {
		if id != "" && slices.ContainsFunc(s.changes, func(c *change) bool { return c.id == id }) {
			return s, nil
		}
	}
	return nil, err
}

func (a *Account) id(kind, name string) string {
	a.made++
	return fmt.Sprintf("arn:aws:cloudformation:%s:%s:%s/%s/%08d-0000-4000-8000-000000000000", Region, Number, kind, name,
		a.made)
}

// readChange reads the template and the parameters of a request. was may be nil.
func (q *query) readChange(was *stack) (c *change, err error) {
	c = &change{values: map[string]string{}, made: time.Now()}
	if c.template, err = readTemplate(q.text("TemplateBody")); err != nil {
		return nil, err
	}
	given := map[string]string{}
	for i := 1; ; i++ {
		at := fmt.Sprintf("Parameters.member.%d.", i)
		name := q.text(at + "ParameterKey")
		if name == "" {
			break
		}
		given[name] = q.text(at + "ParameterValue")
		if was != nil && q.text(at+"UsePreviousValue") == "true" {
			given[name] = was.values[name]
		}
		if !slices.ContainsFunc(c.template.parameters, func(d declared) bool { return d.name == name }) {
			return nil, invalid("Parameters: [%s] do not exist in the template", name)
		}
	}
	for _, d := range c.template.parameters {
		value, ok := given[d.name]
		if !ok && !d.isPreset {
			return nil, invalid("Parameters: [%s] must have values", d.name)
		}
		if !ok {
			value = d.preset
		}
		c.values[d.name] = value
	}
	if c.template.roles && q.text("Capabilities.member.1") == "" {
		return nil, &fault{"InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_IAM]",
			http.StatusBadRequest}
	}
	return c, nil
}

// changesNothing reports whether an update would change no resource: that of Metadata alone is none.
func (s *stack) changesNothing(c *change) bool {
	return s.template != nil && s.template.resources == c.template.resources && maps.Equal(s.values, c.values)
}

func (a *Account) changeAtOnce(q *query, creates bool) (fields, error) {
	s, err := a.find(q.text("StackName"))
	if creates != (err != nil) {
		if err == nil {
			err = &fault{"AlreadyExistsException", "Stack already exists", http.StatusBadRequest}
		}
		return nil, err
	}
	c, err := q.readChange(s)
	if err != nil {
		return nil, err
	}
	if creates {
		s = a.add(q.text("StackName"))
	} else if s.changesNothing(c) {
		return nil, invalid("No updates are to be performed.")
	}
	a.begin(s, c)
	return fields{{"StackId", s.id}}, nil
}

func (a *Account) add(name string) *stack {
	s := &stack{name: name, id: a.id("stack", name), status: "REVIEW_IN_PROGRESS", drift: "NOT_CHECKED"}
	a.stacks[name] = s
	return s
}

func (a *Account) createChangeSet(q *query) (fields, error) {
	s, err := a.find(q.text("StackName"))
	creates := q.text("ChangeSetType") == "CREATE"
	if err != nil && !creates {
		return nil, err
	}
	c, wrong := q.readChange(s)
	if wrong != nil {
		return nil, wrong
	}
	if s == nil {
		s = a.add(q.text("StackName"))
	}
	if slices.ContainsFunc(s.changes, func(o *change) bool { return o.name == q.text("ChangeSetName") }) {
		return nil, &fault{"AlreadyExistsException", "ChangeSet already exists", http.StatusBadRequest}
	}
	c.name, c.id = q.text("ChangeSetName"), a.id("changeSet", q.text("ChangeSetName"))
	c.status, c.execution = "CREATE_COMPLETE", "AVAILABLE"
	if s.changesNothing(c) {
		c.status, c.execution = "FAILED", "UNAVAILABLE"
		c.reason = "The submitted information didn't contain changes. Submit different information to create a change set."
	}
	s.changes = append(s.changes, c)
	return fields{{"Id", c.id}, {"StackId", s.id}}, nil
}

// changesPerPage is how many changes of a change set one answer has. AWS's answers have up to 1 MB of them.
const changesPerPage = 100

func (a *Account) useChangeSet(q *query, s *stack, action string) (fields, error) {
	at := slices.IndexFunc(s.changes, func(c *change) bool {
		return c.name == q.text("ChangeSetName") || c.id == q.text("ChangeSetName")
	})
	if at < 0 {
		return nil, &fault{"ChangeSetNotFound", "ChangeSet does not exist", http.StatusNotFound}
	}
	c := s.changes[at]
	switch action {
	case "DeleteChangeSet":
		s.changes = slices.Delete(s.changes, at, at+1)
		return nil, nil
	case "DescribeChangeSet":
		begin, _ := strconv.Atoi(q.text("NextToken")) // none: 0
		end := min(begin+changesPerPage, len(c.template.logical))
		var changes []fields
		for _, name := range c.template.logical[min(begin, end):end] {
			changes = append(changes, fields{{"Type", "Resource"}, {"ResourceChange", fields{{"Action", "Modify"},
				{"LogicalResourceId", name}, {"ResourceType", "AWS::SSM::Parameter"}, {"Replacement", "False"}}}})
		}
		answer := append(s.describeChange(c), field{"Changes", changes})
		if end < len(c.template.logical) {
			answer = append(answer, field{"NextToken", strconv.Itoa(end)})
		}
		return answer, nil
	}
	if c.execution != "AVAILABLE" {
		return nil, &fault{"InvalidChangeSetStatus", c.execution, http.StatusBadRequest}
	}
	a.begin(s, c)
	return nil, nil
}

// begin executes a change, or leaves that to Finish.
func (a *Account) begin(s *stack, c *change) {
	verb := "UPDATE"
	if s.template == nil {
		verb = "CREATE"
	}
	s.status, s.next, c.execution = verb+"_IN_PROGRESS", c, "EXECUTE_IN_PROGRESS"
	if !a.held {
		a.finish(s)
	}
}

func (a *Account) finish(s *stack) {
	c := s.next
	s.next = nil
	verb, _, _ := strings.Cut(s.status, "_")
	if a.broken {
		s.status, c.execution = "UPDATE_ROLLBACK_COMPLETE", "EXECUTE_FAILED"
		if verb == "CREATE" {
			s.status = "ROLLBACK_COMPLETE"
		}
		return
	}
	s.status, s.template, s.values, s.changes = verb+"_COMPLETE", c.template, c.values, nil
	s.drift, s.drifted = "NOT_CHECKED", nil
	for _, p := range s.template.versions {
		a.parameters[fill(p.name, s.values)] = fill(p.value, s.values)
	}
}

// look finds what was changed by hand.
func (a *Account) look(s *stack) {
	s.checked, s.drifted, s.drift = time.Now(), slices.Clone(s.byHand), "IN_SYNC"
	if s.template != nil {
		for logical, p := range s.template.versions {
			if a.parameters[fill(p.name, s.values)] != fill(p.value, s.values) {
				s.drifted = append(s.drifted, logical)
			}
		}
	}
	if len(s.drifted) > 0 {
		s.drift = "DRIFTED"
	}
}

func (s *stack) describe() fields {
	var parameters []fields
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		value := s.values[name]
		if slices.ContainsFunc(s.template.parameters, func(d declared) bool { return d.name == name && d.noEcho }) {
			value = "****"
		}
		parameters = append(parameters, fields{{"ParameterKey", name}, {"ParameterValue", value}})
	}
	drift := fields{{"StackDriftStatus", s.drift}}
	if !s.checked.IsZero() {
		drift = append(drift, field{"LastCheckTimestamp", timeText(s.checked)})
	}
	return fields{{"StackName", s.name}, {"StackId", s.id}, {"CreationTime", "2026-11-01T00:00:00.000Z"},
		{"StackStatus", s.status}, {"Parameters", parameters}, {"DriftInformation", drift}}
}

func (s *stack) describeChange(c *change) fields {
	return fields{{"StackName", s.name}, {"StackId", s.id}, {"ChangeSetName", c.name}, {"ChangeSetId", c.id},
		{"Status", c.status}, {"StatusReason", c.reason}, {"ExecutionStatus", c.execution},
		{"CreationTime", timeText(c.made)}}
}

func (s *stack) resource(logical string) (fields, error) {
	if s.template == nil || !slices.Contains(s.template.logical, logical) {
		return nil, invalid("Resource %s does not exist for stack %s", logical, s.name)
	}
	physical := logical
	if p, ok := s.template.versions[logical]; ok {
		physical = fill(p.name, s.values)
	}
	return fields{{"StackResourceDetail", fields{{"StackName", s.name}, {"StackId", s.id},
		{"LogicalResourceId", logical}, {"PhysicalResourceId", physical}, {"ResourceType", "AWS::SSM::Parameter"},
		{"LastUpdatedTimestamp", "2026-11-01T00:00:00.000Z"}, {"ResourceStatus", "CREATE_COMPLETE"}}}}, nil
}

// summary describes a stack's template, or another one.
func (a *Account) summary(q *query) (fields, error) {
	var t *template
	var err error
	if name := q.text("StackName"); name != "" {
		s, err := a.find(name)
		if err != nil {
			return nil, err
		}
		if t = s.template; t == nil {
			return nil, invalid("Stack %s has no template", name)
		}
	} else if t, err = readTemplate(q.text("TemplateBody")); err != nil {
		return nil, err
	}
	var parameters []fields
	for _, d := range t.parameters {
		one := fields{{"ParameterKey", d.name}, {"ParameterType", "String"}, {"NoEcho", d.noEcho}}
		if d.isPreset {
			one = append(one, field{"DefaultValue", d.preset})
		}
		parameters = append(parameters, one)
	}
	all := fields{{"Parameters", parameters}, {"Metadata", t.metadata}}
	if t.roles {
		all = append(all, field{"Capabilities", []string{"CAPABILITY_IAM"}})
	}
	return all, nil
}
