// Package crd judges objects as the API server judges custom resources: by the
// checked-in definitions in config/crd/bases, with the API server's own code
// for pruning, defaults, schema and CEL, and without an API server.
//
// It exists for tests, and lives in this module because that code drags half
// of Kubernetes along.
package crd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// Judge knows the definitions of a folder.
type Judge struct {
	Definitions []*apiextensions.CustomResourceDefinition
	versions    map[string]*version
}

// version is what is needed to judge objects of one kind and version.
type version struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	cel        *cel.Validator
}

// Load reads every definition of a folder.
func Load(dir string) (*Judge, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no definitions in %s (%v): expected the output of make generate", dir, err)
	}
	j := &Judge{versions: map[string]*version{}}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := j.add(text); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return j, nil
}

func (j *Judge) add(text []byte) error {
	var v1 apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &v1); err != nil {
		return err
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&v1)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&v1.Spec)
	var crd apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&v1, &crd, nil); err != nil {
		return err
	}
	j.Definitions = append(j.Definitions, &crd)
	for i := range crd.Spec.Versions {
		v := &crd.Spec.Versions[i]
		s := v.Schema
		if s == nil {
			s = crd.Spec.Validation
		}
		structural, err := schema.NewStructural(s.OpenAPIV3Schema)
		if err != nil {
			return err
		}
		validator, _, err := validation.NewSchemaValidator(s.OpenAPIV3Schema)
		if err != nil {
			return err
		}
		j.versions[crd.Spec.Group+"/"+v.Name+" "+crd.Spec.Names.Kind] = &version{
			structural: structural,
			schema:     validator,
			cel:        cel.NewValidator(structural, true, celconfig.PerCallLimit),
		}
	}
	return nil
}

// Installable says why the API server would not accept a definition.
func (j *Judge) Installable(crd *apiextensions.CustomResourceDefinition) field.ErrorList {
	// The API server fills this in when it stores a definition.
	filled := crd.DeepCopy()
	for _, v := range filled.Spec.Versions {
		if v.Storage {
			filled.Status.StoredVersions = []string{v.Name}
		}
	}
	return crdvalidation.ValidateCustomResourceDefinition(context.Background(), filled)
}

// Create judges an object, written as YAML, as if it was created. It returns
// the object as it would be stored, and why it is refused.
func (j *Judge) Create(text string) (map[string]any, field.ErrorList) {
	return j.judge(text, nil)
}

// Update judges an object as if it replaced old.
func (j *Judge) Update(old, text string) (map[string]any, field.ErrorList) {
	before, errs := j.judge(old, nil)
	if len(errs) > 0 {
		return nil, errs
	}
	return j.judge(text, before)
}

func (j *Judge) judge(text string, old map[string]any) (map[string]any, field.ErrorList) {
	var object map[string]any
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err == nil {
		// Unlike the standard library this one keeps whole numbers whole.
		err = json.Unmarshal(raw, &object)
	}
	if err != nil {
		return nil, field.ErrorList{field.Invalid(nil, text, err.Error())}
	}
	name := fmt.Sprintf("%v %v", object["apiVersion"], object["kind"])
	v, ok := j.versions[name]
	if !ok {
		return nil, field.ErrorList{field.Invalid(nil, name, "no such kind")}
	}
	if unknown := pruning.PruneWithOptions(object, v.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}); len(unknown) > 0 {
		return nil, field.ErrorList{field.Invalid(nil, strings.Join(unknown, ", "), "unknown field")}
	}
	defaulting.Default(object, v.structural)
	var errs field.ErrorList
	if old == nil {
		errs = validation.ValidateCustomResource(nil, object, v.schema)
	} else {
		errs = validation.ValidateCustomResourceUpdate(nil, object, old, v.schema)
	}
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, v.structural, object)...)
	if v.cel != nil && len(errs) == 0 {
		var before any
		if old != nil {
			before = old
		}
		celErrs, _ := v.cel.Validate(context.Background(), nil, v.structural, object, before, celconfig.RuntimeCELCostBudget)
		errs = append(errs, celErrs...)
	}
	return object, errs
}
