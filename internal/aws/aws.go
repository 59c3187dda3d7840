// Package aws makes signed requests to AWS without the SDK's clients, which are 23 MB of the program and slow the start
// of every verb (docs/decisions/0017-aws-without-clients.md). Configuration, credentials and signatures are the SDK's;
// callers write the few requests as the services' models have them.
//
// Errors hold neither credentials nor AWS's own words, which name roles and sessions. Answers are bounded in size, and
// requests in time by the callers' contexts. A Client may be used at once.
package aws

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
)

// Client is a way to AWS in one region.
type Client struct {
	Region string // empty: not known
	config aws.Config
}

// Connect finds the credentials as every program of AWS does: in the environment, in files, from a pod's or a machine's
// identity. An empty region stands for the configuration's.
func Connect(ctx context.Context, region string) (*Client, error) {
	// the SDK's own, which AWS_CA_BUNDLE needs
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(awshttp.NewBuildableClient())}
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	return &Client{c.Region, c}, nil
}

// HasCredentials reports whether there are credentials. They are kept until they expire.
func (c *Client) HasCredentials(ctx context.Context) bool {
	if c.config.Credentials == nil {
		return false
	}
	_, err := c.config.Credentials.Retrieve(ctx)
	return err == nil
}

// IsThrottled reports whether a code says that there are too many requests.
func IsThrottled(code string) bool {
	_, is := retry.DefaultThrottleErrorCodes[code]
	return is
}

// IsDenied reports whether a code says that whoever asks may not.
func IsDenied(code string) bool {
	switch code {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized", "UnauthorizedAccess":
		return true
	}
	return false
}

// IsUnknown reports whether a code says that AWS does not know who asks.
func IsUnknown(code string) bool {
	switch code {
	case "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException",
		"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "MissingAuthenticationToken",
		"MissingAuthenticationTokenException", "RequestExpired", "OptInRequired":
		return true
	}
	return false
}

// Partition returns AWS's partition of a region, as ARNs name it.
func Partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// Suffix returns the end of the names of AWS's endpoints in a region.
func Suffix(region string) string {
	if Partition(region) == "aws-cn" {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// IsWord reports whether a text has 1 to most ASCII letters and digits, or others that are named, and begins with a
// letter. A pattern would be compiled at the start of every verb.
func IsWord(text string, most int, others string) bool {
	for i, c := range text {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || !('0' <= c && c <= '9') && !strings.ContainsRune(others, c)) {
			return false
		}
	}
	return text != "" && len(text) <= most
}
