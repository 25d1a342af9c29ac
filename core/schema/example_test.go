package schema_test

import (
	"fmt"
	"net/url"

	"github.com/eiderdb/eider/core/schema"
)

func Example() {
	type createBucket struct {
		Project     string `path:"id" json:"-"`
		Refresh     bool   `query:"refresh" json:"-"`
		Name        string `json:"name" required:"true" maxLength:"128"`
		Description string `json:"description" default:"none"`
	}
	in, err := schema.InputOf[createBucket](schema.New())
	if err != nil {
		fmt.Println(err)
		return
	}
	request := schema.Source{
		Param: func(string) string { return "sales" },
		Query: url.Values{"refresh": {"true"}},
		Body:  []byte(`{"name":"raw"}`),
	}
	got, err := in.Decode(request)
	fmt.Printf("%+v %v\n", got, err)

	request.Body = []byte(`{"nmae":"raw"}`)
	_, err = in.Decode(request)
	fmt.Println(err)
	// Output:
	// {Project:sales Refresh:true Name:raw Description:none} <nil>
	// validation_failed: name: is required (and 1 more)
}
