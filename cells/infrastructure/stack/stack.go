// Package stack reads which infrastructure update a cell has executed from the CloudFormation stacks that its customer
// made: their status, change sets, drift and parameters, and the number in the last one's template and SSM parameter.
//
// It executes nothing and changes no stack: of AWS it asks for descriptions, for a look for drift now and then and,
// with Prepare, for a change set that the owner of the account executes.
// What AWS's answers mean is decided by pure functions. Faults hold neither credentials nor AWS's own words, which name
// roles and sessions. A Reader is used by one goroutine; all else may be called at once.
package stack

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/aws"
)

// Error says why something of AWS can't be read or done, and what to do about it.
type Error struct {
	What   string // that AWS was asked for, as policies write it, such as ssm:GetParameter
	Fault  string
	Remedy string
}

func (e *Error) Error() string { return e.Fault + ": " + e.Remedy }

// ParseNames reads names of stacks with commas between, in the order in which an update is executed.
func ParseNames(text string) ([]string, error) {
	names := strings.Split(text, ",")
	for _, name := range names {
		if !aws.IsWord(name, 128, "-") {
			return nil, fmt.Errorf("%.140q is no name of a stack", name)
		}
	}
	if len(names) > maxStacks {
		return nil, fmt.Errorf("%d stacks: at most %d are read", len(names), maxStacks)
	}
	return names, nil
}

// ParseQuotas reads quotas that are needed, by SERVICE/CODE.
func ParseQuotas(least map[string]string) (all []cells.Quota, err error) {
	if len(least) > cells.MaxQuotas {
		return nil, fmt.Errorf("%d quotas: at most %d are read", len(least), cells.MaxQuotas)
	}
	for _, name := range slices.Sorted(maps.Keys(least)) {
		text := least[name]
		number, err := strconv.ParseFloat(text, 64)
		service, code, _ := strings.Cut(name, "/")
		if err != nil || !(number >= 0 && number < 1e12) || !aws.IsWord(service, 63, "-") ||
			!aws.IsWord(code, 128, "-") {
			return nil, fmt.Errorf("%.100q is not SERVICE/CODE=LEAST, such as ec2/L-1216C47A=16", name+"="+text)
		}
		all = append(all, cells.Quota{Service: service, Code: code, Least: number})
	}
	return all, nil
}

// Console returns the host of AWS's console in a region.
func Console(region string) string {
	switch aws.Partition(region) {
	case "aws-cn":
		return region + ".console.amazonaws.cn"
	case "aws-us-gov":
		return region + ".console.amazonaws-us-gov.com"
	}
	return region + ".console.aws.amazon.com"
}

// ChangeSetLink returns where the owner of an account looks at a change set and executes it; empty: an ARN is none.
func ChangeSetLink(stack, changeSet string) string {
	parts := strings.SplitN(stack, ":", 6) // arn:PARTITION:cloudformation:REGION:ACCOUNT:stack/NAME/ID
	if len(parts) != 6 || !strings.HasPrefix(changeSet, "arn:") || !aws.IsWord(parts[3], 32, "-") {
		return ""
	}
	link := fmt.Sprintf("https://%s/cloudformation/home?region=%s#/stacks/changesets/changes?stackId=%s&changeSetId=%s",
		Console(parts[3]), parts[3], url.QueryEscape(stack), url.QueryEscape(changeSet))
	if len(link) > cells.MaxLink {
		return ""
	}
	return link
}
