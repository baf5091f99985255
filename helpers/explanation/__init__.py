"""Why did it say that, and can we trust the explanation?

Gradients: `saliency`, `smooth_grad`, `integrated_gradients`, `grad_cam`, `occlusion`. Attention: `attention_maps`,
`rollout`, `induction`. Trust: `deletion_auc`, `insertion_auc`, `stability`, `sanity_check`, `trust_table`. A planted
shortcut and how to find it: `watermarked`, `find_shortcut`. Simpler models: `simplification`. The modules are imported
when one of their names is first used.
"""
