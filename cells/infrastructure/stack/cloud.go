package stack

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/sluice-cd/sluice/internal/aws"
)

// cloud is a way to AWS.
type cloud struct {
	client *aws.Client
	region string
}

// connect finds the region and the credentials as every program of AWS does: in the environment, in files, from a pod's
// or a machine's identity.
func connect(ctx context.Context) (*cloud, error) {
	c, err := aws.Connect(ctx, "")
	if err != nil {
		return nil, &Error{What: "configuration", Fault: "the configuration for AWS can't be read",
			Remedy: "check AWS_CONFIG_FILE, AWS_PROFILE, AWS_CA_BUNDLE and the files that they name"}
	}
	if c.Region == "" {
		return nil, &Error{What: "configuration", Fault: "the region is not known",
			Remedy: "set AWS_REGION for the agent"}
	}
	return &cloud{c, c.Region}, nil
}

// checkCredentials returns an error if there are none. They are kept until they expire.
func (c *cloud) checkCredentials(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, perRequest)
	defer cancel()
	if c.client.HasCredentials(ctx) {
		return nil
	}
	return &Error{What: "credentials", Fault: "the agent has no credentials for AWS",
		Remedy: "give its pod its role (EKS Pod Identity, add-on eks-pod-identity-agent), or its machine an instance " +
			"profile; with an instance profile a pod needs a hop limit of 2 for IMDSv2"}
}

// ask makes a request of the query protocol, which CloudFormation and STS speak.
func (c *cloud) ask(ctx context.Context, service, action string, parameters url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, perRequest)
	defer cancel()
	version := "2010-05-15"
	if service == "sts" {
		version = "2011-06-15"
	}
	return c.client.Query(ctx, aws.Service{Name: service, Version: version}, action, parameters, into)
}

// askJSON makes a request of the JSON protocol, which Systems Manager and Service Quotas speak.
func (c *cloud) askJSON(ctx context.Context, service, target string, parameters, into any) error {
	ctx, cancel := context.WithTimeout(ctx, perRequest)
	defer cancel()
	return c.client.JSON(ctx, aws.Service{Name: service}, target, parameters, into)
}

var errNothing = errors.New("an empty answer")

// explain says why something that AWS was asked for failed. AWS's own text names roles and sessions, so it is left out.
func explain(what, region string, err error) *Error {
	e := &Error{What: what}
	code := aws.CodeOf(err)
	service, _, _ := strings.Cut(what, ":")
	var name *net.DNSError
	var late net.Error
	switch {
	case aws.IsThrottled(code):
		e.Fault, e.Remedy = "AWS limits requests of "+what, "the agent asks less often until it is answered"
	case aws.IsDenied(code):
		e.Fault, e.Remedy = "AWS denies the agent "+what, "allow it in the agent's role, as the newest infrastructure "+
			"update does"
	case aws.IsUnknown(code):
		e.Fault, e.Remedy = "AWS does not accept the agent's credentials for "+what+" ("+code+")", "check the agent's role, "+
			"and this machine's clock"
	case code == "NoSuchResourceException":
		e.Fault, e.Remedy = "AWS knows no such quota", "check the service and the code"
	case code != "":
		e.Fault, e.Remedy = "AWS refuses "+what+" ("+code+")", "look at the stack in the console"
	case errors.As(err, &name):
		e.Fault, e.Remedy = "the name of AWS's endpoint for "+what+" is unknown here", endpointRemedy(service, region)
	case errors.As(err, &late) && late.Timeout(), errors.Is(err, context.DeadlineExceeded):
		e.Fault, e.Remedy = "AWS does not answer "+what+" in time", endpointRemedy(service, region)
	case errors.Is(err, errNothing):
		e.Fault, e.Remedy = "AWS's answer to "+what+" is empty", "the agent tries again"
	case errors.Is(err, aws.ErrEndpoint):
		e.Fault, e.Remedy = err.Error(), "leave out AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_"+aws.SettingName(service)+
			", or the other two"
	case errors.Is(err, aws.ErrTooLarge):
		e.Fault, e.Remedy = "AWS's answer to "+what+" is too large", "look at the stack in the console"
	default:
		e.Fault, e.Remedy = "AWS can't be asked for "+what, endpointRemedy(service, region)
	}
	return e
}

func endpointRemedy(service, region string) string {
	return "make an interface endpoint com.amazonaws." + region + "." + service + " with private DNS in the cell's " +
		"network, and let its security group in at TCP 443"
}
