package policy_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/usage"
)

// quota allows a project so many bytes. What the question says of usage holds
// this call already, and those that were admitted before it.
type quota struct{ bytes int64 }

func (q quota) Decide(_ context.Context, question *policy.Question) (policy.Decision, error) {
	if question.ProjectUsage.Bytes <= q.bytes {
		return policy.Decision{}, nil
	}
	return policy.Decision{
		Deny: true, Code: eider.QuotaExceeded,
		Reason: fmt.Sprintf("%d of %d bytes", question.ProjectUsage.Bytes, q.bytes),
	}, nil
}

func ExampleChain_Ask() {
	chain, err := policy.NewChain([]policy.Item{
		{Name: "quota", Policy: quota{1000}, Mode: policy.Enforce, Operations: []string{"upload_*"}},
		{Name: "soft-quota", Policy: quota{800}, Mode: policy.Warn, Priority: 1},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	for _, bytes := range []int64{500, 900, 1100} {
		o := chain.Ask(context.Background(), &policy.Question{
			Operation: "upload_file", Project: &eider.Project{ID: "sales"}, ProjectUsage: usage.Amounts{Bytes: bytes},
		})
		fmt.Println(bytes, o.Warnings, o.Denial != nil)
		if o.Denial != nil {
			fmt.Println(o.Denial.Code, o.Denial.Message)
		}
	}
	// Output:
	// 500 [] false
	// 900 [soft-quota: 900 of 800 bytes] false
	// 1100 [soft-quota: 1100 of 800 bytes] true
	// quota_exceeded denied by policy quota: 1100 of 1000 bytes
}
