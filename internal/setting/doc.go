// Package setting declares settings: what a setting is called, what it means,
// which values it takes, its default and where it applies.
//
// A package that reads a setting declares it, beside the field or the value that
// holds it. Whatever else must know the setting derives it from the
// declaration: parsing, checks, recorded values, help and the reference. For a
// field of a struct:
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
