package stack

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/aws"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
)

// Change is a new template for a stack that is there.
type Change struct {
	Stack      string
	Template   []byte            // at most MaxInline bytes, else in a bucket
	URL        string            // of the template in a bucket; empty: Template
	Name       string            // of the change set; empty: sluice-N
	Parameters map[string]string // by name; all others keep their value
}

// MaxInline is the size in bytes above which CloudFormation takes a template from a bucket only.
const MaxInline = 51_200

// Prepared is a change set, which waits for the owner of the account to execute it.
type Prepared struct {
	Name    string           `json:"name"`
	Stack   string           `json:"stack"`
	Link    string           `json:"link"`
	Changes []ResourceChange `json:"changes"`
	Cut     bool             `json:"cut,omitempty"` // there are more changes than are listed
}

// ResourceChange is what a change set does to one resource, in AWS's words.
type ResourceChange struct {
	Action      string `json:"action"`
	Resource    string `json:"resource" xml:"LogicalResourceId"`
	Type        string `json:"type" xml:"ResourceType"`
	Replacement string `json:"replacement,omitempty"`
}

const (
	prepareTimeout = 10 * time.Minute
	preparePause   = 5 * time.Second        // the longest between two looks
	firstLook      = 200 * time.Millisecond // before the second look

	maxChangePages = 20 // of a change set; a stack has at most 500 resources
)

// summary is what AWS says of a template.
type summary struct {
	Parameters   []declared `xml:"GetTemplateSummaryResult>Parameters>member"`
	Capabilities []string   `xml:"GetTemplateSummaryResult>Capabilities>member"`
	Metadata     string     `xml:"GetTemplateSummaryResult>Metadata"`
}

type declared struct {
	Name    string  `xml:"ParameterKey"`
	Default *string `xml:"DefaultValue"`
}

// Prepare makes a change set, and executes nothing. It asks AWS by the credentials of whoever calls it.
func Prepare(ctx context.Context, change Change) (p Prepared, err error) {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	c, err := connect(ctx)
	if err == nil {
		err = c.checkCredentials(ctx)
	}
	if err != nil {
		return p, err
	}
	was, err := c.describe(ctx, change.Stack)
	if err != nil {
		return p, err
	}
	template := url.Values{"TemplateBody": {string(change.Template)}}
	if change.URL != "" {
		template = url.Values{"TemplateURL": {change.URL}}
	}
	var about summary
	if err := c.ask(ctx, formation, "GetTemplateSummary", template, &about); err != nil {
		return p, explain("cloudformation:GetTemplateSummary", c.region, err)
	}
	parameters, err := choose(about.Parameters, change.Parameters, was.parameters)
	if err != nil {
		return p, err
	}
	if change.Name == "" {
		n, err := numberOf(change.Stack, about.Metadata)
		if err != nil {
			return p, err
		}
		change.Name = fmt.Sprintf("sluice-%d", n)
	}
	parameters.Set("StackName", was.id)
	parameters.Set("ChangeSetName", change.Name)
	parameters.Set("ChangeSetType", "UPDATE")
	maps.Copy(parameters, template)
	for i, capability := range about.Capabilities {
		parameters.Set(fmt.Sprintf("Capabilities.member.%d", i+1), capability)
	}
	var made struct {
		ID string `xml:"CreateChangeSetResult>Id"`
	}
	err = c.ask(ctx, formation, "CreateChangeSet", parameters, &made)
	switch {
	case aws.CodeOf(err) == "AlreadyExistsException":
		return p, &Error{What: "cloudformation:CreateChangeSet",
			Fault:  "the stack " + change.Stack + " has a change set " + change.Name + " already",
			Remedy: "execute or delete it, or name another with --name"}
	case err != nil:
		return p, explain("cloudformation:CreateChangeSet", c.region, err)
	}
	p = Prepared{Name: change.Name, Stack: change.Stack, Link: ChangeSetLink(was.id, made.ID)}
	p.Changes, p.Cut, err = c.awaitChangeSet(ctx, made.ID)
	return p, err
}

// changesPage is a page of what AWS says of a change set.
type changesPage struct {
	Status  string           `xml:"DescribeChangeSetResult>Status"`
	Reason  string           `xml:"DescribeChangeSetResult>StatusReason"`
	Changes []ResourceChange `xml:"DescribeChangeSetResult>Changes>member>ResourceChange"`
	Next    string           `xml:"DescribeChangeSetResult>NextToken"`
}

// awaitChangeSet returns the changes of a change set once AWS knows them. cut reports that there are more.
func (c *cloud) awaitChangeSet(ctx context.Context, id string) (all []ResourceChange, cut bool, err error) {
	for try := 0; ; try++ {
		out, err := c.describeChangeSet(ctx, id, "")
		switch {
		case err != nil:
			return nil, false, err
		case out.Status == "FAILED":
			// it can't be executed, and would only be in the way of the next one
			_ = c.ask(ctx, formation, "DeleteChangeSet", url.Values{"ChangeSetName": {id}}, new(struct{}))
			return nil, false, &Error{What: "cloudformation:CreateChangeSet",
				Fault:  "AWS made no change set: " + words.OneLine(out.Reason),
				Remedy: "if nothing would change, the stack has this template already"}
		case out.Status == "CREATE_COMPLETE":
			return c.restOfChanges(ctx, id, out)
		}
		pause := backoff.Exponential(firstLook, preparePause, try)
		if err := backoff.Sleep(ctx, backoff.Spread(pause)); err != nil {
			return nil, false, explain("cloudformation:DescribeChangeSet", c.region, err)
		}
	}
}

// restOfChanges returns the changes of a change set, whose first page is known.
func (c *cloud) restOfChanges(ctx context.Context, id string, page changesPage) (
	all []ResourceChange, cut bool, err error,
) {
	all = page.Changes
	for n := 1; page.Next != ""; n++ {
		if n == maxChangePages {
			return all, true, nil
		}
		if page, err = c.describeChangeSet(ctx, id, page.Next); err != nil {
			return nil, false, err
		}
		all = append(all, page.Changes...)
	}
	return all, false, nil
}

func (c *cloud) describeChangeSet(ctx context.Context, id, next string) (page changesPage, err error) {
	parameters := url.Values{"ChangeSetName": {id}}
	if next != "" {
		parameters.Set("NextToken", next)
	}
	if err := c.ask(ctx, formation, "DescribeChangeSet", parameters, &page); err != nil {
		return page, explain("cloudformation:DescribeChangeSet", c.region, err)
	}
	return page, nil
}

// choose returns the parameters of a change set: those that somebody named, and those that the stack has and keeps.
// What is new has its default.
func choose(all []declared, named, had map[string]string) (url.Values, error) {
	form := url.Values{}
	left := maps.Clone(named)
	var missing []string
	n := 0
	for _, d := range all {
		value, isNamed := named[d.Name]
		_, has := had[d.Name]
		delete(left, d.Name)
		if !isNamed && !has {
			if d.Default == nil {
				missing = append(missing, d.Name)
			}
			continue
		}
		n++
		at := fmt.Sprintf("Parameters.member.%d.", n)
		form.Set(at+"ParameterKey", d.Name)
		if isNamed {
			form.Set(at+"ParameterValue", value)
		} else {
			form.Set(at+"UsePreviousValue", "true")
		}
	}
	if len(left) > 0 {
		return nil, &Error{What: "parameters", Fault: "the template has no parameter " +
			strings.Join(slices.Sorted(maps.Keys(left)), ", "), Remedy: "leave it out"}
	}
	if len(missing) > 0 {
		return nil, &Error{What: "parameters", Fault: "the template needs a value of " + strings.Join(missing, ", "),
			Remedy: "add --parameter NAME=VALUE"}
	}
	return form, nil
}
