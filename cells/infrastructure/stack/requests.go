package stack

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/aws"
)

const formation = "cloudformation"

// describe reads the stack itself.
func (c *cloud) describe(ctx context.Context, name string) (s description, err error) {
	var out struct {
		Stacks []struct {
			StackId, StackStatus string
			DriftInformation     struct {
				StackDriftStatus   string
				LastCheckTimestamp time.Time
			}
			Parameters []struct{ ParameterKey, ParameterValue string } `xml:"Parameters>member"`
		} `xml:"DescribeStacksResult>Stacks>member"`
	}
	err = c.ask(ctx, formation, "DescribeStacks", url.Values{"StackName": {name}}, &out)
	switch {
	case aws.CodeOf(err) == "ValidationError":
		return s, &Error{What: "cloudformation:DescribeStacks",
			Fault:  "there is no stack " + name + " in " + c.region,
			Remedy: "name the stacks of this cell in the agent's --infrastructure, and its region in AWS_REGION"}
	case err != nil:
		return s, explain("cloudformation:DescribeStacks", c.region, err)
	case len(out.Stacks) != 1:
		return s, explain("cloudformation:DescribeStacks", c.region, errNothing)
	}
	got := out.Stacks[0]
	s = description{id: got.StackId, name: name, status: got.StackStatus, drift: got.DriftInformation.StackDriftStatus,
		checked: got.DriftInformation.LastCheckTimestamp, parameters: map[string]string{}}
	for _, p := range got.Parameters {
		// never the value that AWS finds in a parameter of Systems Manager, which may be a secret
		s.parameters[p.ParameterKey] = p.ParameterValue
	}
	return s, nil
}

// metadata returns that of a stack's template, in JSON.
func (c *cloud) metadata(ctx context.Context, name string) (string, error) {
	var out struct {
		Metadata string `xml:"GetTemplateSummaryResult>Metadata"`
	}
	if err := c.ask(ctx, formation, "GetTemplateSummary", url.Values{"StackName": {name}}, &out); err != nil {
		return "", explain("cloudformation:GetTemplateSummary", c.region, err)
	}
	return out.Metadata, nil
}

// version returns the value of a stack's own VersionResource: another stack's parameter of that name does not count.
func (c *cloud) version(ctx context.Context, name string) (string, error) {
	missing := &Error{What: "ssm:GetParameter",
		Fault:  "the stack " + name + " has no parameter " + VersionResource,
		Remedy: "name the stack of the update's last template as the last one, or execute the update again"}
	var resource struct {
		Name string `xml:"DescribeStackResourceResult>StackResourceDetail>PhysicalResourceId"`
	}
	err := c.ask(ctx, formation, "DescribeStackResource",
		url.Values{"StackName": {name}, "LogicalResourceId": {VersionResource}}, &resource)
	switch {
	case aws.CodeOf(err) == "ValidationError", err == nil && resource.Name == "":
		return "", missing
	case err != nil:
		return "", explain("cloudformation:DescribeStackResource", c.region, err)
	}
	var out struct{ Parameter struct{ Value string } }
	err = c.askJSON(ctx, "ssm", "AmazonSSM.GetParameter", map[string]string{"Name": resource.Name}, &out)
	switch {
	case aws.CodeOf(err) == "ParameterNotFound":
		return "", missing
	case err != nil:
		return "", explain("ssm:GetParameter", c.region, err)
	}
	return out.Parameter.Value, nil
}

func (c *cloud) changeSets(ctx context.Context, name string) (all []changeSet, err error) {
	parameters := url.Values{"StackName": {name}}
	for len(all) < maxChangeSets {
		var out struct {
			Summaries []struct {
				ChangeSetId, ChangeSetName, Status, ExecutionStatus string
				CreationTime                                        time.Time
			} `xml:"ListChangeSetsResult>Summaries>member"`
			NextToken string `xml:"ListChangeSetsResult>NextToken"`
		}
		if err := c.ask(ctx, formation, "ListChangeSets", parameters, &out); err != nil {
			return nil, explain("cloudformation:ListChangeSets", c.region, err)
		}
		for _, s := range out.Summaries {
			all = append(all, changeSet{s.ChangeSetId, s.ChangeSetName, s.Status, s.ExecutionStatus, s.CreationTime})
		}
		if out.NextToken == "" || len(out.Summaries) == 0 {
			break
		}
		parameters.Set("NextToken", out.NextToken)
	}
	return all, nil
}

// driftedResources names the resources of a stack that were changed by hand.
func (c *cloud) driftedResources(ctx context.Context, name string) (all []string, err error) {
	const filter = "StackResourceDriftStatusFilters.member."
	var out struct {
		Drifts []struct{ LogicalResourceId string } `xml:"DescribeStackResourceDriftsResult>StackResourceDrifts>member"`
	}
	err = c.ask(ctx, formation, "DescribeStackResourceDrifts", url.Values{"StackName": {name},
		"MaxResults": {driftsPerStack}, filter + "1": {"MODIFIED"}, filter + "2": {"DELETED"}}, &out)
	if err != nil {
		return nil, explain("cloudformation:DescribeStackResourceDrifts", c.region, err)
	}
	for _, d := range out.Drifts {
		all = append(all, d.LogicalResourceId)
	}
	return all, nil
}

// lookForDrift has AWS look for drift; a later read has what it found.
func (c *cloud) lookForDrift(ctx context.Context, name string) error {
	if err := c.ask(ctx, formation, "DetectStackDrift", url.Values{"StackName": {name}}, new(struct{})); err != nil {
		return explain("cloudformation:DetectStackDrift", c.region, err)
	}
	return nil
}

// quota returns the value of a quota: the account's or, of one that has none, AWS's default.
func (c *cloud) quota(ctx context.Context, q cells.Quota) (float64, error) {
	var out struct{ Quota struct{ Value *float64 } }
	parameters := map[string]string{"ServiceCode": q.Service, "QuotaCode": q.Code}
	action := "GetServiceQuota"
	err := c.askJSON(ctx, "servicequotas", "ServiceQuotasV20190624."+action, parameters, &out)
	if aws.CodeOf(err) == "NoSuchResourceException" {
		action = "GetAWSDefaultServiceQuota"
		err = c.askJSON(ctx, "servicequotas", "ServiceQuotasV20190624."+action, parameters, &out)
	}
	if err == nil && out.Quota.Value == nil {
		err = errNothing
	}
	if err != nil {
		return 0, explain("servicequotas:"+action, c.region, err)
	}
	return *out.Quota.Value, nil
}

// whoAsks returns account, region and role in words, and the account.
func (c *cloud) whoAsks(ctx context.Context) (who, account string, err error) {
	var out struct {
		Account string `xml:"GetCallerIdentityResult>Account"`
		Arn     string `xml:"GetCallerIdentityResult>Arn"`
	}
	if err := c.ask(ctx, "sts", "GetCallerIdentity", nil, &out); err != nil {
		return "", "", explain("sts:GetCallerIdentity", c.region, err)
	}
	role := out.Arn // arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION
	if parts := strings.Split(role, "/"); len(parts) > 1 {
		role = parts[1]
	}
	return "account " + out.Account + " in " + c.region + ", as " + role, out.Account, nil
}
