"""An imperceptible watermark in the pixels of drawn images, which survives JPEG, resizing and cropping."""
