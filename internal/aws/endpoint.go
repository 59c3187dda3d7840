package aws

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// ErrEndpoint says that the configuration names an endpoint, and FIPS or dual stack, which only AWS's have.
var ErrEndpoint = errors.New(
	"an endpoint that the settings name goes with neither AWS_USE_FIPS_ENDPOINT nor AWS_USE_DUALSTACK_ENDPOINT")

// SettingName returns how AWS_ENDPOINT_URL_… ends for a service.
func SettingName(service string) string {
	return strings.ToUpper(strings.ReplaceAll(sdkName(service), " ", "_"))
}

// sdkName returns the name by which AWS's settings know a service.
func sdkName(service string) string {
	switch service {
	case "cloudformation":
		return "CloudFormation"
	case "servicequotas":
		return "Service Quotas"
	}
	return strings.ToUpper(service) // SSM, STS, ECR
}

// endpoint returns where a service is asked, as the SDK's clients find it: at an endpoint that the environment or the
// shared configuration names, else at AWS's own of the region, with FIPS and IPv6 as these say.
func (c *Client) endpoint(ctx context.Context, service Service) (string, error) {
	isFIPS := c.isSet(func(source any) (set, found bool) {
		s, ok := source.(interface {
			GetUseFIPSEndpoint(ctx context.Context) (aws.FIPSEndpointState, bool, error)
		})
		if !ok {
			return false, false
		}
		state, found, err := s.GetUseFIPSEndpoint(ctx)
		return state == aws.FIPSEndpointStateEnabled, found && err == nil
	})
	isDualStack := c.isSet(func(source any) (set, found bool) {
		s, ok := source.(interface {
			GetUseDualStackEndpoint(ctx context.Context) (aws.DualStackEndpointState, bool, error)
		})
		if !ok {
			return false, false
		}
		state, found, err := s.GetUseDualStackEndpoint(ctx)
		return state == aws.DualStackEndpointStateEnabled, found && err == nil
	})
	if own := c.OwnEndpoint(ctx, service.Name); own != "" {
		if isFIPS || isDualStack {
			return "", ErrEndpoint
		}
		return strings.TrimRight(own, "/"), nil
	}
	return "https://" + hostOf(service, c.Region, isFIPS, isDualStack), nil
}

// isSet returns the first setting that is found in the sources of the configuration: the environment, then files.
func (c *Client) isSet(get func(source any) (set, found bool)) bool {
	for _, source := range c.config.ConfigSources {
		if set, found := get(source); found {
			return set
		}
	}
	return false
}

// OwnEndpoint returns what the configuration names as a service's endpoint; empty: nothing.
func (c *Client) OwnEndpoint(ctx context.Context, service string) (own string) {
	own = aws.ToString(c.config.BaseEndpoint)
	name := sdkName(service)
	_, general := os.LookupEnv("AWS_ENDPOINT_URL")
	_, special := os.LookupEnv("AWS_ENDPOINT_URL_" + SettingName(service))
	if general && !special { // the environment goes before files
		return own
	}
	if c.isSet(func(source any) (set, found bool) {
		s, ok := source.(interface {
			GetIgnoreConfiguredEndpoints(ctx context.Context) (bool, bool, error)
		})
		if !ok {
			return false, false
		}
		set, found, err := s.GetIgnoreConfiguredEndpoints(ctx)
		return set, found && err == nil
	}) {
		return own
	}
	for _, source := range c.config.ConfigSources {
		s, ok := source.(interface {
			GetServiceBaseEndpoint(ctx context.Context, sdkID string) (string, bool, error)
		})
		if !ok {
			continue
		}
		if named, found, err := s.GetServiceBaseEndpoint(ctx, name); err == nil && found {
			return named
		}
	}
	return own
}

// hostOf returns the name of AWS's own endpoint of a service.
func hostOf(service Service, region string, isFIPS, isDualStack bool) string {
	name, end := cmp.Or(service.Host, service.Name), Suffix(region)
	if isDualStack {
		name, end = service.Name, "api.aws"
		if Partition(region) == "aws-cn" {
			end = "api.amazonwebservices.com.cn"
		}
	}
	if isFIPS && (isDualStack || service.Host != "" || Partition(region) != "aws-us-gov") { // there, all others are
		name = service.Name + "-fips"
	}
	return name + "." + region + "." + end
}
