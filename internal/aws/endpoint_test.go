package aws

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
)

// Services are asked where the SDK's own client would ask, whatever the environment and the shared configuration say.
func TestEndpointsAreTheSDKs(t *testing.T) {
	type settings = map[string]string
	const file = "[default]\nservices = own\nuse_fips_endpoint = FIPS\nuse_dualstack_endpoint = DUAL\n" +
		"endpoint_url = GENERAL\n[services own]\ncloudformation =\n  endpoint_url = https://file-formation.example\nssm =\n" +
		"  endpoint_url = https://file-ssm.example\n"
	shared := func(fips, dual, general string, special bool) string {
		text := strings.NewReplacer("FIPS", fips, "DUAL", dual, "endpoint_url = GENERAL\n", general).Replace(file)
		if !special {
			text = strings.Replace(text, "services = own\n", "", 1)
		}
		return text
	}
	all := map[string]struct {
		environment settings
		file        string
	}{
		"nothing":         {nil, ""},
		"for all":         {settings{"AWS_ENDPOINT_URL": "https://all.example"}, ""},
		"for the service": {settings{"AWS_ENDPOINT_URL_CLOUDFORMATION": "https://one.example/"}, ""},
		"for another":     {settings{"AWS_ENDPOINT_URL_SSM": "https://ssm.example"}, ""},
		"both": {settings{"AWS_ENDPOINT_URL": "https://all.example",
			"AWS_ENDPOINT_URL_CLOUDFORMATION": "https://one.example"}, ""},
		"FIPS":                {settings{"AWS_USE_FIPS_ENDPOINT": "true"}, ""},
		"dual stack":          {settings{"AWS_USE_DUALSTACK_ENDPOINT": "true"}, ""},
		"FIPS and dual stack": {settings{"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"}, ""},
		"FIPS at one's own": {settings{"AWS_USE_FIPS_ENDPOINT": "true",
			"AWS_ENDPOINT_URL": "https://all.example"}, ""},
		"in the file":            {nil, shared("false", "false", "", true)},
		"for all in the file":    {nil, shared("false", "false", "endpoint_url = https://file.example\n", false)},
		"FIPS in the file":       {nil, shared("true", "false", "", false)},
		"the environment before": {settings{"AWS_USE_FIPS_ENDPOINT": "false"}, shared("true", "true", "", false)},
		"for all before the file": {settings{"AWS_ENDPOINT_URL": "https://all.example"},
			shared("false", "false", "", true)},
		"ignored": {settings{"AWS_ENDPOINT_URL": "https://all.example", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
			shared("false", "false", "", true)},
	}
	for name, tc := range all {
		for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-north-1"} {
			t.Run(name+" in "+region, func(t *testing.T) {
				config := filepath.Join(t.TempDir(), "config")
				if err := os.WriteFile(config, []byte(tc.file), 0o600); err != nil {
					t.Fatal(err)
				}
				for name, value := range map[string]string{"AWS_REGION": region, "AWS_ACCESS_KEY_ID": "A",
					"AWS_SECRET_ACCESS_KEY": "s", "AWS_CONFIG_FILE": config,
					"AWS_SHARED_CREDENTIALS_FILE": os.DevNull} {
					t.Setenv(name, value)
				}
				for name, value := range tc.environment {
					t.Setenv(name, value)
				}
				c, err := Connect(t.Context(), "")
				if err != nil {
					t.Fatal(err)
				}
				got, err := c.endpoint(t.Context(), Service{Name: "cloudformation"})
				want, sdkErr := sdkEndpoint(t, c)
				if (err != nil) != (sdkErr != nil) || got != want {
					t.Errorf("it is %s, %v; the SDK has %s, %v", got, err, want, sdkErr)
				}
			})
		}
	}
}

// sdkEndpoint returns where the SDK's client of CloudFormation asks.
func sdkEndpoint(t *testing.T, c *Client) (string, error) {
	o := cloudformation.NewFromConfig(c.config).Options()
	isFIPS := o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled
	isDualStack := o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled
	resolver := cloudformation.NewDefaultEndpointResolverV2()
	at, err := resolver.ResolveEndpoint(t.Context(), cloudformation.EndpointParameters{
		Region: &c.Region, UseFIPS: &isFIPS, UseDualStack: &isDualStack, Endpoint: o.BaseEndpoint})
	return strings.TrimRight(at.URI.String(), "/"), err
}

// The other services are asked by the same rules, each by its own settings.
func TestEachServiceHasItsEndpoint(t *testing.T) {
	for name, value := range map[string]string{"AWS_REGION": "eu-central-1", "AWS_CONFIG_FILE": os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_ENDPOINT_URL_SSM": "https://ssm.example",
		"AWS_ENDPOINT_URL_SERVICE_QUOTAS": "https://quotas.example"} {
		t.Setenv(name, value)
	}
	c, err := Connect(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]string{"cloudformation": "https://cloudformation.eu-central-1.amazonaws.com",
		"sts": "https://sts.eu-central-1.amazonaws.com", "ssm": "https://ssm.example",
		"servicequotas": "https://quotas.example"} {
		if got, err := c.endpoint(t.Context(), Service{Name: service}); err != nil || got != want {
			t.Errorf("%s is at %s, %v, want %s", service, got, err, want)
		}
	}
}
