package tables

import (
	"context"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb/worker"
)

func (f *Tables) declareBuckets(r *core.Registry) {
	declareChange[createBucket](f, r, "create_bucket", route(operation.Spec{
		Name: "create_bucket", Role: eider.ProjectWrite, Target: "bucket", Status: 201,
		Summary: "Create a bucket", Description: "A bucket is a schema of the project's database. Names differ by more than case.",
		Errors: []eider.Code{eider.BucketExists, eider.BranchNotFound, eider.TooManyQueries, eider.ProjectRestarted},
	}, "POST", ""), showBucket)
	operation.Read(r.Operations, route(operation.Spec{
		Name: "list_buckets", Role: eider.ProjectRead, Target: "bucket", Slow: true, Summary: "List buckets by name",
		Errors: []eider.Code{eider.BranchNotFound, eider.InvalidCursor, eider.TooManyQueries, eider.ProjectRestarted},
	}, "GET", ""), f.listBuckets)
	operation.Read(r.Operations, route(operation.Spec{
		Name: "get_bucket", Role: eider.ProjectRead, Target: "bucket", Slow: true, Tagged: true, Summary: "Get a bucket",
		Errors: []eider.Code{eider.BucketNotFound, eider.BranchNotFound, eider.TooManyQueries, eider.ProjectRestarted},
	}, "GET", inBucket), f.getBucket)
	declareChange[dropBucket](f, r, "drop_bucket", route(operation.Spec{
		Name: "drop_bucket", Role: eider.ProjectWrite, Target: "bucket", Frees: true, Summary: "Drop a bucket",
		Errors: []eider.Code{eider.BucketNotFound, eider.BucketNotEmpty, eider.BranchNotFound, eider.PreconditionFailed, eider.TooManyQueries, eider.ProjectRestarted},
	}, "DELETE", inBucket), nothing)
}

type createBucket struct {
	place
	Name        string  `json:"name" required:"true"`
	Description *string `json:"description,omitempty" maxLength:"1024"`
}

func (in createBucket) ask() (worker.Target, error) {
	if err := checkBucketName(in.Name); err != nil {
		return worker.Target{}, err
	}
	if in.Description != nil {
		if err := eider.CheckText("description", *in.Description, 1024); err != nil {
			return worker.Target{}, err
		}
	}
	return worker.Target{Bucket: in.Name, Description: in.Description}, nil
}

type listBuckets struct {
	place
	page
}

type bucketPage struct {
	Buckets    []worker.Bucket `json:"buckets"`
	Total      int64           `json:"total"`
	NextCursor string          `json:"next_cursor,omitempty"`
}

func (f *Tables) listBuckets(ctx context.Context, _ *operation.View, in listBuckets) (bucketPage, error) {
	if err := in.check(); err != nil {
		return bucketPage{}, err
	}
	asked, err := in.of("")
	if err != nil {
		return bucketPage{}, err
	}
	found := worker.Buckets{}
	if err := f.ask(ctx, "list_buckets", asked, &found); err != nil {
		return bucketPage{}, err
	}
	list := bucketPage{Buckets: found.Buckets, Total: found.Total}
	if len(list.Buckets) > in.Limit {
		list.Buckets = list.Buckets[:in.Limit]
		list.NextCursor = cursor(list.Buckets[in.Limit-1].Name)
	}
	return list, nil
}

func (f *Tables) getBucket(ctx context.Context, _ *operation.View, in bucketPlace) (found worker.Bucket, err error) {
	if err := in.check(); err != nil {
		return found, err
	}
	operation.From(ctx).Resource(in.Bucket)
	return found, f.ask(ctx, "get_bucket", in.target(), &found)
}

type dropBucket struct {
	bucketPlace
	IfMatch string `header:"If-Match" json:"-" doc:"Drop only if the ETag is still this one"`
	Cascade bool   `query:"cascade" json:"-" doc:"With all that it holds"`
}

func (in dropBucket) ifMatch() string { return in.IfMatch }

func (in dropBucket) ask() (worker.Target, error) {
	target := in.target()
	target.Cascade = in.Cascade
	return target, nil
}
