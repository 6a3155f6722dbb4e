// Package setting declares settings: a setting's key, meaning, domain and
// default, and the conditions under which it exists.
//
// The package that reads a setting declares it, next to the field or value that
// holds it. Parsing, checks, recorded values, help and the reference are derived
// from the declaration. For a field of a struct:
//
//	func (e *Eval) Settings() []setting.Setting {
//		return []setting.Setting{
//			setting.Bind(&e.Every, setting.Declaration{
//				Key: "eval.every", Meaning: "steps between evaluations; 0 is once an epoch",
//				Domain: setting.AtLeast(0), Default: setting.Value(0),
//			}),
//		}
//	}
//
// Settings without a struct, such as an optimizer's hyperparameters, are kept in
// [Values]:
//
//	setting.Declaration{
//		Key: "beta2", Meaning: "memory of the gradient's mean square",
//		Domain: setting.Below1, Default: setting.Value(0.999).When(setting.Is("model.family", "transformer"), 0.99),
//	}
package setting
